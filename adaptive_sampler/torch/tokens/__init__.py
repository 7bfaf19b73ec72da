"""The loss hook for language models: from the losses of tokens to the scores of documents."""
