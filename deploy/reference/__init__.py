"""What is written from the operator's code: `crds/` and `docs/reference/`.

`make crd` writes, `make crd-check` compares. The operator does not import it, and its image does
not contain it.
"""
