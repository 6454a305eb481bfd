"""Requests passed on as they are: the OpenAI API of the model servers, on the baseline or a burst lane."""

__all__: list[str] = []
