# From notebooks to the rendered book. `pruneviz book` runs this after the sweep, with a configuration that
# lists what exists; nothing here imports the library, so that finding nothing to do is quick.
#
# A rule's output is a stamp, not the thing itself: Snakemake deletes outputs before it makes them again, and
# what was rendered last must survive a notebook that fails.
import json
import sys
from shlex import quote

PYTHON = quote(sys.executable)
NOTEBOOKS = config["notebooks"]
# The study does not know the widgets, which are a floor above it; here the two are put together.
RENDER = quote("from pruneviz.study.book import main; from pruneviz.widgets.page import assets; main(assets())")


# Each stamp is asked for by itself: of a file that is merely on the way to another, Snakemake does not mind that it
# is missing, and after a failed notebook the next run would find the old pages good.
rule all:
    input:
        "_build/stamps/html",
        expand("_build/stamps/notebook/{name}", name=NOTEBOOKS),


rule book:
    input:
        expand("_build/stamps/notebook/{name}", name=NOTEBOOKS),
        config["pages"],
        config["library"],
    output:
        touch("_build/stamps/html"),
    params:
        notebooks=sorted(NOTEBOOKS),
    shell:
        "{PYTHON} -c {RENDER}"


rule notebook:
    input:
        source="notebooks/{name}.ipynb",
        library=config["library"],
        results=config["results"],
        others=lambda wildcards: config["sources"] if wildcards.name in config["readers"] else [],
    output:
        touch("_build/stamps/notebook/{name}"),
    params:
        values=lambda wildcards: json.dumps(NOTEBOOKS[wildcards.name], sort_keys=True),
    shell:
        "{PYTHON} -m pruneviz.study.notebook {input.source:q} _build/notebooks/{wildcards.name:q}.ipynb {params.values:q}"
