# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write disks of 1 MiB whose boot sectors do one thing each: usage: make_disks.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

# cld; xor ax, ax; mov ds, ax; mov si, 0x7c16; mov dx, 0x3f8; next: lodsb; test al, al; jz end; out dx, al; jmp next; end: hlt; jmp end
PRINT = bytes.fromhex("fc 31c0 8ed8 be167c baf803 ac 84c0 7403 ee ebf8 f4 ebfd")
# mov al, 0xfe; out 0x64, al: the keyboard controller resets the machine
RESET = bytes.fromhex("b0fe e664 f4 ebfd")


def disk(code: bytes) -> bytes:
    return (code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "empty.raw").write_bytes(bytes(1 << 20))
    (folder / "hello.raw").write_bytes(disk(PRINT + b"hello from the boot sector\r\n\0"))
    (folder / "panic.raw").write_bytes(disk(PRINT + b"[    4.916743] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n\0"))
    (folder / "reset.raw").write_bytes(disk(RESET))


if __name__ == "__main__":
    main()
