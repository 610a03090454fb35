"""The whole site as one file to take along: the same bytes for the same pages."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

#: The file's name, beside the site's first page.
NAME = "pruneviz-book.zip"

_LINK = re.compile(rb'<a\b[^>]*\bhref="[^"]*' + re.escape(NAME.encode()) + rb'"[^>]*>(.*?)</a>', re.DOTALL)
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the format has no earlier one


def pack(site: Path) -> Path:
    """Pack a rendered site into `<site>/pruneviz-book.zip`, in a folder of that name.

    Names are sorted, and neither dates nor permissions of files are kept, so that the archive changes when a page does.
    Links to the archive itself are left out of its pages: there they would lead nowhere.

    Args:
        site: the folder of the pages. An archive that is there already is replaced, and never packed.

    Returns:
        The archive's path.

    Raises:
        OSError: if a page cannot be read, or the archive not be written.
    """
    target = site / NAME
    target.unlink(missing_ok=True)
    files = sorted(path for path in site.rglob("*") if path.is_file())
    folder = Path(NAME).stem
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in files:
            entry = zipfile.ZipInfo(f"{folder}/{path.relative_to(site).as_posix()}", _NO_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            content = path.read_bytes()
            archive.writestr(entry, _LINK.sub(rb"\1", content) if path.suffix == ".html" else content)
    return target
