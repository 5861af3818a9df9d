"""Keeps the tests off the network; stands before anything imports albumentations or wandb."""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["WANDB_MODE"] = "offline"
