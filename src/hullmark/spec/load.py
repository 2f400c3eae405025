"""Properties from files: which VNN-LIB it is, and gzip."""

import gzip
import re
import zlib
from pathlib import Path

from hullmark.errors import BadInput
from hullmark.spec.property import Property
from hullmark.spec.sexpr import Source
from hullmark.spec.vnnlib1 import parse_vnnlib1
from hullmark.spec.vnnlib2 import parse_vnnlib2

_BEGINS_AS_2 = re.compile(r"(?:\s|;[^\n]*(?:\n|\Z))*\(\s*(?:vnnlib-version|declare-network)\b")


def load_property(
    path: str | Path, input_size: int | None = None, output_size: int | None = None
) -> Property:
    """The property in a VNN-LIB file, version 1.0 or 2.0 as its first command tells.

    Arguments:
        path: the file, plain or gzipped; where it does not exist, the same name with `.gz`.
        input_size, output_size: those of the network, or `None` to take what is declared.

    Raises:
        BadInput: if the file cannot be read, is malformed or does not fit the network.
        Unsupported: if it uses a part of the language that is not handled.
        VacuousProperty: if it describes no input at all.

    Trust: exact; decimals never pass through a float.
    """
    source = _read(Path(path))
    parse = parse_vnnlib2 if _BEGINS_AS_2.match(source.text) else parse_vnnlib1
    return parse(source, input_size, output_size)


def _read(path: Path) -> Source:
    zipped = Path(f"{path}.gz")
    if not path.exists() and zipped.exists():
        path = zipped
    try:
        data = path.read_bytes()
        # By content, since a gzipped file may go by the plain name.
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return Source(str(path), data.decode("utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: is not a text file in UTF-8") from None
