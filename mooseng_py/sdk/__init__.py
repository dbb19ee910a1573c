"""Use a MooseNG file system from Python, in the manner of `os` and `io`.

with mooseng_py.connect("mooseng://host1:9421,host2:9421,host3:9421/") as fs:
    with fs.open("/notes.txt", "w") as file:
        file.write("hello")
"""

from ._connect import connect
from ._files import RawFile
from ._filesystem import FileSystem
from ._stat import Chunk, DirEntry, StatResult, StatVfs

__all__ = ["Chunk", "DirEntry", "FileSystem", "RawFile", "StatResult", "StatVfs", "connect"]
