"""The tests never wait for a hub: said here, before any of them imports a library that reads it."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
