"""How far an implementation may be from the oracle, by precision and check."""

FP64 = {
    "loss": 1e-10,
    "decay": 1e-9,
    "decoupled_decay": 1e-9,
    "gradient": 1e-9,
    "cosine": 1e-9,
    "gradient_norm": 1e-9,
    "gradient_tensor": 1e-9,
    "second_moment": 1e-9,
    "update": 1e-9,
    "update_norm": 1e-9,
    "losses": 1e-10,
    "momentum": 1e-9,
}
FINETUNE_TOLERANCES = {"fp64": FP64}
LORA_TOLERANCES = {"fp64": FP64}
