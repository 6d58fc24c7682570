"""Write datasets/sha256.txt: the hashes of the raw files that catalog entries read.

    GRAPHFM_DATA=... python tools/raw_hashes.py > datasets/sha256.txt

Only files below GRAPHFM_DATA get a hash. The number of other files is printed to stderr, by host;
their hashes are recorded at the first fetch (``raw.sha256`` in the cache folder).
"""

from __future__ import annotations

import sys
from collections import Counter
from fnmatch import fnmatch
from functools import partial
from urllib.parse import urlsplit

from graphfm.graphs.catalog.catalog import Catalog, data_folder
from graphfm.storage import file_sha256

# The bundle has these files with the same arrays but other bytes than their origin (see its
# MANIFEST.csv): their hash would refuse the file of the origin.
REWRITTEN = (
    "Amazon/Computers/raw/*",
    "Coauthor/Physics/raw/*",
    "CitationFull/*/raw/*",
    "PolBlogs/polblogs/raw/*",
    "WikipediaNetwork/*/out1_node_feature_label.txt",
)


def main() -> None:
    """Print the whole file."""
    catalog, data = Catalog.read(), data_folder()
    paths, unknown = set(), Counter[str]()
    for id in catalog.entries:
        if catalog.is_here(id):
            source, folder = catalog.fetch(id)
            if folder == data:
                paths |= {path.relative_to(data).as_posix() for path in source.raw_files(data)}
        for file in catalog.files(id):
            if not (data / file["path"]).is_file():
                unknown[urlsplit(file["url"]).netloc] += 1
    left_out = {path for path in paths if any(fnmatch(path, pattern) for pattern in REWRITTEN)}
    for path in sorted(paths - left_out):
        print(f"{file_sha256(data / path)}  {path}")
    note = partial(print, file=sys.stderr)
    note(f"{len(paths) - len(left_out)} files have a hash")
    note(f"{len(left_out)} rewritten files are left out: {', '.join(sorted(left_out))}")
    for host, number in unknown.most_common():
        note(f"{number} files of {host} get a hash at their first fetch")


if __name__ == "__main__":
    main()
