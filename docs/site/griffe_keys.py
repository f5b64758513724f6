"""Extension of the API page: a field that is declared by `key(DEFAULT, …)` is shown with its default alone."""

import griffe


class KeyDefaults(griffe.Extension):
    """Replaces `key(DEFAULT, …)` by `DEFAULT`; its help is in the docstring of the class, in other words."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_) -> None:
        """Replace the value of one attribute."""
        value = attr.value
        if isinstance(value, griffe.ExprCall) and str(value.function) == "key" and value.arguments:
            attr.value = value.arguments[0]
