"""Break every writing command at every turn, and see that the same command ends in the same state: `make torture`.

A case is one command on a small prepared workspace (cases.py). Its reference is the state it ends in undisturbed. A
trial breaks the command once, looks at the workspace (`tesla status`, `tesla doctor`), gives the same command again,
and compares every file with the reference (state.py). A trial is lost if a file is missing, different or
too many, if a temporary file is left, if something was set aside, if the second command fails, or if the first one
ended with exit code 0 and the work not done.

There are two views. From inside (inside.py), the object that all durable writes go through is replaced: it can write
half of a block, or forget what was not synced, as in a power cut. From outside (outside.py), `strace` kills or refuses
system calls of the untouched program, also those that do not go through that object.
"""
