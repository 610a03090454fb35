# The graph of a sweep: one job per shard, then the table. The configuration is the plan that sweep.py writes.
#
# No record is an output here: Snakemake deletes the outputs of a job that fails or is killed. A job's output is
# an empty marker, which sweep.py drops when a record behind it is missing or damaged.
import os
import shlex

SHARDS = config["shards"]
STARTED = shlex.join(["touch", config["started"]])  # sweep.py tells by it what Snakemake refuses to run


def command(*arguments):
    # Progress and messages go to the standard output, which sweep.py connects to its own standard error;
    # what Snakemake itself has to say goes elsewhere.
    return shlex.join([config["python"], "-m", *map(str, arguments)]) + " 2>&1"


def unless_ended(shard, command):
    # A process that was quick with its own shard may have gone through this one as well.
    ended, marker = shlex.quote(shard["ended"]), shlex.quote(shard["marker"])
    return f"if [ -e {ended} ]; then touch {marker}; else {command} && touch {marker}; fi"


def verbatim(text):
    # Of what a function returns, Snakemake takes no brace for a wildcard.
    return lambda wildcards: text


def here(path):
    # Relative to the working directory: a brace in the path of the store would be a wildcard.
    return os.path.relpath(path, os.path.dirname(config["plan"]))


localrules: table


rule table:
    input: [here(shard["marker"]) for shard in SHARDS]
    output: touch(here(config["table"]))
    params: command=verbatim(command("pruneviz", "table", "--store", config["store"], "--quiet"))
    shell: "{params.command}"


for index, shard in enumerate(SHARDS):
    work = f"{STARTED} && " + command("pruneviz.study.worker", config["plan"], index)

    rule:
        name: f"shard_{index}"
        output: here(shard["marker"])
        params: command=verbatim(unless_ended(shard, work))
        priority: len(SHARDS) - index
        threads: config["job_threads"]
        shell: "{params.command}"
