"""The student's steps of the published code, to the last digit, fed its recorded draws.

The format is that of the goldens' README: teacher and student weights from a NumPy recipe,
normalised inputs, per step the CutMix draw and the loss, digests of every tensor after the last
step.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from recipes import golden_architecture, golden_variables

from delt_jax.core import training
from delt_jax.core.augment.mixing import Patch, cutmix
from delt_jax.models.torch_weights import to_state_dict


def test_student_golden(x64, student_golden):
    with np.load(student_golden) as golden:
        record = json.loads(str(golden["record"]))
        eval_logits = golden["student_eval_logits_on_batch0"]
    meta = record["meta"]
    size, num_classes, steps = meta["size"], meta["num_classes"], meta["steps"]
    teacher, teacher_variables = golden_variables(
        golden_architecture(meta["teacher"], meta["stem"]), num_classes, size, meta["seed"]
    )
    student, student_variables = golden_variables(
        golden_architecture(meta["student"], meta["stem"]), num_classes, size, meta["seed"] + 1
    )
    optimizer = training.adamw(meta["adamw"]["weight_decay"])
    state = training.create_state(optimizer, student_variables)
    shape = (steps, meta["batch_size"], 3, size, size)
    inputs = np.random.default_rng(meta["seed"] + 2).normal(0, 1, shape)
    inputs = np.moveaxis(inputs, 2, -1)  # NCHW to NHWC

    @jax.jit
    def step(state, images, permutation, patch, learning_rate):
        mixed = cutmix(images, permutation, patch)
        teacher_logits = teacher.apply(teacher_variables, mixed, train=False)
        return training.student_step(
            *(student.apply, optimizer, state, mixed, teacher_logits, learning_rate),
            temperature=meta["temperature"],
        )

    steps_per_epoch = steps // meta["epochs"]
    for index in range(steps):
        epoch = index // steps_per_epoch
        rate = training.student_learning_rate(meta["adamw"]["lr"], epoch, meta["epochs"])
        np.testing.assert_allclose(rate, record["lr"][epoch], rtol=1e-12)
        # The recorded box (x1, y1, x2, y2) indexes axes 2 and 3 of NCHW, in that order.
        patch = Patch(*map(jnp.asarray, record["bbox"][index]))
        permutation = jnp.asarray(record["perm"][index])
        state, loss = step(state, inputs[index], permutation, patch, rate)
        np.testing.assert_allclose(loss, record["loss"][index], rtol=1e-9)

    logits = student.apply(state.variables, inputs[0], train=False)
    np.testing.assert_allclose(logits, eval_logits, rtol=1e-9, atol=1e-9)
    tensors = to_state_dict(state.variables)
    assert set(record["param_digest"]) == {k for k in tensors if "num_batches" not in k}
    for key, digest in record["param_digest"].items():
        tensor = tensors[key]
        found = [tensor.sum(), np.abs(tensor).sum(), np.square(tensor).sum()]
        np.testing.assert_allclose(found, digest, rtol=1e-9, atol=1e-9, err_msg=key)
