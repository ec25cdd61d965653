"""Runs a command without some system calls, as systemd's ``SystemCallFilter`` does: a script of the tests.

Arguments: numbers of system calls with commas between, the number of the error that they then end with (0:
they kill), and the command.
"""

import ctypes
import os
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def main() -> None:
    """Deny, and become the command."""
    denied = [int(number) for number in sys.argv[1].split(",")]
    error = int(sys.argv[2])
    instructions = [struct.pack("HBBI", _LOAD, 0, 0, 0)]
    for i, number in enumerate(denied):
        instructions.append(struct.pack("HBBI", _JUMP_IF_EQUAL, len(denied) - i, 0, number))
    instructions.append(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    instructions.append(struct.pack("HBBI", _RETURN, 0, 0, _ERROR | error if error else _KILL))
    buffer = ctypes.create_string_buffer(b"".join(instructions))
    program = _Program(len(instructions), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
