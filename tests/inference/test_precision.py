"""bfloat16 only where it is asked for and the hardware has it."""

from dataclasses import replace

import torch
from helpers.lines import CONFIG, CPU, Exact, batches, states_equal
from torch.testing import assert_close

from mousai.inference import precision
from mousai.inference.precision import autocast, bfloat16_pays, native_bfloat16, set_gpu_precision
from mousai.training.loop import fit


def test_without_bfloat16_in_hardware_the_precision_auto_changes_nothing(monkeypatch):
    monkeypatch.setattr(precision, "native_bfloat16", lambda device: False)
    plain, auto = Exact(), Exact()
    fit(plain, batches, CONFIG, 4, device=CPU)
    fit(auto, batches, replace(CONFIG, precision="auto"), 4, device=CPU)
    states_equal(plain, auto)
    assert plain.kinds == auto.kinds == {torch.float32}


def test_with_bfloat16_in_hardware_only_auto_computes_in_it_and_weights_stay_whole(monkeypatch):
    monkeypatch.setattr(precision, "native_bfloat16", lambda device: True)
    plain, auto = Exact(), Exact()
    fit(plain, batches, CONFIG, 2, device=CPU)
    fit(auto, batches, replace(CONFIG, precision="auto"), 2, device=CPU)
    assert (plain.kinds, auto.kinds) == ({torch.float32}, {torch.bfloat16})
    assert {p.dtype for p in auto.parameters()} == {torch.float32}
    assert_close(auto.rest.weight, plain.rest.weight, atol=0.05, rtol=0.05)


def test_a_device_that_says_nothing_of_bfloat16_is_taken_to_have_none():
    assert not native_bfloat16(torch.device("mps"))
    assert native_bfloat16(CPU) in (True, False)


def test_fast_is_what_was_measured_and_without_the_hardware_nothing_is(monkeypatch):
    bfloat16_pays.cache_clear()
    monkeypatch.setattr(precision, "native_bfloat16", lambda device: False)
    assert not bfloat16_pays(CPU)
    for pays in (True, False):
        monkeypatch.setattr(precision, "bfloat16_pays", lambda device, pays=pays: pays)
        with autocast("fast", CPU):
            kind = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        assert kind == (torch.bfloat16 if pays else torch.float32)
    bfloat16_pays.cache_clear()


def test_the_probe_answers_on_this_machine():
    assert bfloat16_pays(CPU) in (True, False)


def test_float32_leaves_a_gpu_no_shortcut_and_fast_does():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for name in ("fast", "float32"):
        set_gpu_precision(name)
        flags = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        assert flags == ((name == "fast"),) * 2
        assert torch.backends.cudnn.deterministic == (name == "float32")
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.backends.cudnn.deterministic = False
