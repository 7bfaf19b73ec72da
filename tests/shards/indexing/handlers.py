"""What is done with a damaged sample or shard: it is left out, or it is the end."""


def go_on(error: Exception) -> bool:
    return True


def stop(error: Exception) -> bool:
    return False
