"""What each opcode does, by family; importing a file puts its opcodes into the table of `ptx.decode`."""
