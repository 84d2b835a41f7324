"""The small table that commands are tried on: two columns, and whether a fruit is ripe."""

ROWS = [(x / 7, "ab"[x % 2], "yes" if (x > 20) == (x % 2) else "no") for x in range(42)]
TEXT = "size,colour,ripe\n" + "".join(f"{x:.3f},{c},{r}\n" for x, c, r in ROWS)
