"""SAM models as Transformers has them, with a training forward; loading, freezing, weight names."""
