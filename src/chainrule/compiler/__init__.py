"""The compiler: from a function's circuit to machine code, through stages that can be printed.

trace → decompose → simplify → plan (legal, groups, phases, memory) → kernels in LLVM IR → object.
`interpret` is the meaning of a graph, in NumPy.
"""
