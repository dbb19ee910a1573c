"""The C header in git against the library as built: what one declares, the other has."""

import re
from pathlib import Path

import cffi

from mooseng_py.native._boundary import ffi, lib

HEADER = Path(__file__).parents[3] / "native/include/mooseng.h"


def declared() -> tuple[cffi.FFI, str]:
    """The header without what cffi's parser does not take: the guard and includes."""
    text = HEADER.read_text()
    lines = [line for line in text.splitlines() if not re.match(r"#(ifndef|endif|include|define MOOSENG_H)", line)]
    parsed = cffi.FFI()
    parsed.cdef("\n".join(lines))
    return parsed, text


def test_every_function_of_the_header_is_in_the_library_with_its_types_and_no_other() -> None:
    parsed, text = declared()
    names = set(re.findall(r"\b(mng_\w+)\(", text))
    assert names == {name for name in dir(lib) if name.startswith("mng_")}
    built = parsed.dlopen(str(library_path()))
    for name in sorted(names):
        ours, theirs = ffi.typeof(getattr(lib, name)), parsed.typeof(getattr(built, name))
        assert ours.cname.replace("struct ", "") == theirs.cname.replace("struct ", ""), name


def test_every_constant_of_the_header_has_its_value() -> None:
    _, text = declared()
    constants = {name: int(value) for name, value in re.findall(r"#define (MNG_\w+) (\d+)", text)}
    assert constants == {name: getattr(lib, name) for name in dir(lib) if name.startswith("MNG_")}


def test_the_reply_has_the_layout_of_the_header() -> None:
    parsed, _ = declared()
    assert parsed.sizeof("MngReply") == ffi.sizeof("MngReply")
    assert [name for name, _ in parsed.typeof("MngReply").fields] == [name for name, _ in ffi.typeof("MngReply").fields]


def library_path() -> Path:
    return next((HEADER.parents[2] / "mooseng_py/native/_lib").glob("*.so"))
