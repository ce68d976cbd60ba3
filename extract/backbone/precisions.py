"""Precisions of a backbone by name; without torch, for they are choices of a command."""

# What torch computes in. int8 is of OpenVINO's vision tower: texts, and whatever else torch
# computes, are float32 then.
PRECISIONS = {"float32": "float32", "bfloat16": "bfloat16", "int8": "float32"}
