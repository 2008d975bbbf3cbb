"""Networks only; losses and loops live beside them."""
