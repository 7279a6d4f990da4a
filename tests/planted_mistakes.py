"""Mutation check: mistakes are planted in a copy of the package, one at a time, and the tests must go red for each.

python tests/planted_mistakes.py [--only PART] [--quick] [--write tests/PLANTED.md]

Run by `make test-full`. Exits with 1 where a mistake survives. A file's own tests come first, then those of its room,
then parity with the authors' packages, then the rest; `--quick` leaves out the rest. Progress is a line a mistake.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARITY = "tests/core/test_parity.py"
CHOSEN = "not notebooks and not paper_size and not full"
LEFT_OUT = ("test_lessons", "test_notebooks", "test_planted", "test_environment")  # they read files, not the package
HANG = 300  # seconds beyond what the clean tree takes; then a mistake counts as caught
BEGIN, END = "<!-- planted mistakes: drawn by tests/planted_mistakes.py -->", "<!-- end of planted mistakes -->"


@dataclass(frozen=True)
class Mistake:
    """In mousai/<file>, `old` becomes `new`. It must still run: only results may change.

    " ... " stands between the parts of `old` that change together, each of which stands in the file exactly once.
    """

    file: str
    name: str
    old: str
    new: str

    def planted(self, text: str) -> str:
        """The file's text with the mistake in it. Raises SystemExit where the table no longer fits the source."""
        for old, new in zip(self.old.split(" ... "), self.new.split(" ... "), strict=True):
            if (found := text.count(old)) != 1:
                raise SystemExit(f"{self.file}: {self.name}: its text is there {found} times, not once: {old!r}")
            text = text.replace(old, new)
        return text


# fmt: off
MISTAKES = [
    # v-diffusion
    Mistake("diffusion.py", "the sign of v turned",
            "return alpha * eps - beta * x_0", "return beta * x_0 - alpha * eps"),
    Mistake("diffusion.py", "the minus in v dropped",
            "return alpha * eps - beta * x_0", "return alpha * eps + beta * x_0"),
    Mistake("diffusion.py", "cos for sin: alpha and beta swapped",
            "return torch.cos(phi), torch.sin(phi)", "return torch.sin(phi), torch.cos(phi)"),
    Mistake("diffusion.py", "half a turn instead of a quarter",
            "(pi / 2 * sigma)", "(pi * sigma)"),
    Mistake("diffusion.py", "one sampling step too few",
            "torch.linspace(start, 0.0, steps + 1)", "torch.linspace(start, 0.0, steps)"),
    Mistake("diffusion.py", "off by one in sigma: sampling ends before level 0",
            "torch.linspace(start, 0.0, steps + 1)", "torch.linspace(start, 0.0, steps + 2)[:-1]"),
    Mistake("diffusion.py", "the net asked at the level to come",
            "v_hat = net(x, sigma)\n", "v_hat = net(x, next_level.expand(len(x)))\n"),
    Mistake("diffusion.py", "the estimate clipped at every step",
            "x = add_noise(x_0_hat, eps_hat,", "x = add_noise(x_0_hat.clamp(-1, 1), eps_hat,"),
    Mistake("diffusion.py", "guidance inverted",
            "v_uncond + scale * (v_cond - v_uncond)", "v_cond + scale * (v_uncond - v_cond)"),
    Mistake("inference/windows.py", "the end of a long signal in no window",
            "[*range(0, length - window, hop), length - window]", "[*range(0, length - window + 1, hop)]"),
    Mistake("inference/windows.py", "windows blended without a fade",
            "torch.minimum(ramp, ramp.flip(0))", "torch.ones_like(ramp)"),
    # spectrogram
    Mistake("spectrogram.py", "the STFT's window left out",
            "window=window, center=True, normalized=True, return_complex=True)\n    return stft",
            "center=True, normalized=True, return_complex=True)\n    return stft"),
    Mistake("spectrogram.py", "the STFT not normalised",
            "center=True, normalized=True, return_complex=True)\n    return stft",
            "center=True, normalized=False, return_complex=True)\n    return stft"),
    Mistake("small/refinement.py", "the phase thrown away where the magnitude changes",
            "torch.polar(m_w.reshape(stft.shape), stft.angle())",
            "torch.polar(m_w.reshape(stft.shape), torch.zeros_like(stft.angle()))"),
    Mistake("small/refinement.py", "the phase turned round where the magnitude changes",
            "m_w.reshape(stft.shape), stft.angle()", "m_w.reshape(stft.shape), -stft.angle()"),
    Mistake("spectrogram.py", "power instead of magnitude",
            "return stft.abs().reshape", "return stft.abs().square().reshape"),
    Mistake("spectrogram.py", "left and right bins interleaved",
            "stft.abs().reshape(batch, channels * stft.shape[-2], stft.shape[-1])",
            "stft.abs().unflatten(0, (batch, channels)).transpose(1, 2).flatten(1, 2)"),
    Mistake("spectrogram.py", "channels summed, not averaged, in the log-mel picture",
            "mono = w.mean(dim=1)", "mono = w.sum(dim=1)"),
    # bands, head and formula of the small stage 1
    Mistake("small/whitening.py", "log g counted twice in its loss",
            "torch.exp(-2 * log_g) + log_g", "torch.exp(-2 * log_g) + 2 * log_g"),
    Mistake("small/whitening.py", "g counted twice",
            "(torch.exp(2 * log_g) + FLOOR).sqrt()", "(torch.exp(4 * log_g) + FLOOR).sqrt()"),
    Mistake("small/dmae.py", "bands multiplied where they are to be divided",
            "[1 / band_size(log_g) for", "[band_size(log_g) for"),
    Mistake("inference/long.py", "the spectrum not given back after sampling",
            "parts = in_windows(parts, lambda x, span: model.coloured(x, condition(*span)), length, windows)", "pass"),
    Mistake("inference/windows.py", "windows that overlap summed, not averaged",
            "yield made[..., :n] / weight[:n].to(held)", "yield made[..., :n]"),
    Mistake("small/octaves.py", "the DCT's phase a little off",
            "torch.float64) + 1 / 8) / n", "torch.float64) + 1 / 4) / n"),
    Mistake("small/octaves.py", "the sign of every second band left to turn",
            "1.0 - 2.0 * odd", "1.0 - 0.0 * odd"),
    Mistake("small/octaves.py", "bands cut without overlap",
            "taper[:half].flip(0)\n        mix[below]", "0 * taper[:half].flip(0)\n        mix[below]"),
    Mistake("small/octaves.py", "mid and side not told apart",
            "overlap_edges(dct4(mid_side(x))", "overlap_edges(dct4(x)"),
    Mistake("small/head.py", "frames of a latent step out of order",
            ".permute(0, 3, 2, 1)", ".flip(2).permute(0, 3, 2, 1)"),
    Mistake("small/head.py", "frames of a latent step beside those of the others",
            ".permute(0, 3, 2, 1)", ".permute(0, 2, 3, 1)"),
    Mistake("small/head.py", "z itself kept from the head's last layers",
            "torch.cat([z, self.trunk(z).to(z)], dim=1)", "torch.cat([0 * z, self.trunk(z).to(z)], dim=1)"),
    Mistake("small/band_groups.py", "a group's halo joined in place of its own bands",
            "self.halo : self.halo + self.size", ": self.size"),
    Mistake("small/band_groups.py", "every group told that it is the first",
            "[first : first + count, :, None]", "[:count, :, None]"),
    Mistake("small/band_groups.py", "z kept from the network",
            "layer(h)[:, None].expand(shape)", "(0 * layer(h))[:, None].expand(shape)"),
    Mistake("small/band_groups.py", "the network's factor left out",
            "added + factor * groups", "added"),
    Mistake("evaluation/in_domain.py", "padding averaged into a text's states",
            'features=384, paper_exact=False', 'features=384, paper_exact=True'),
    # the U-Net
    Mistake("inference/samplers.py", "second order gone the other way",
            "v_hat + (v_hat - v_target(*self.previous, self.sigma)) / 2",
            "v_hat - (v_hat - v_target(*self.previous, self.sigma)) / 2"),
    Mistake("inference/samplers.py", "the prediction before not turned to the level",
            "self.previous = predict_x0_eps(self.x, v_hat, self.sigma)",
            "self.previous = predict_x0_eps(self.x, v_hat, self.level_at(self.step + 1))"),
    Mistake("inference/samplers.py", "Heun's second evaluation not turned back",
            "predict_x0_eps(self.x, v_hat, sigma_next), sigma)",
            "predict_x0_eps(self.x, v_hat, sigma_next), sigma_next)"),
    Mistake("inference/long.py", "the text computed once is no text",
            "conditioned(tcld, torch.cat([null, embedding]))", "conditioned(tcld, torch.cat([null, null]))"),
    Mistake("unet.py", "the time layer untied",
            "self.mlp = nn.Linear(features, features) ... F.gelu(self.mlp(F.gelu(self.mlp(h))))",
            "self.mlp, self.mlp2 = nn.Linear(features, features), nn.Linear(features, features) ... "
            "F.gelu(self.mlp2(F.gelu(self.mlp(h))))"),
    Mistake("unet.py", "the time layer applied once",
            "return F.gelu(self.mlp(F.gelu(self.mlp(h))))", "return F.gelu(self.mlp(h))"),
    Mistake("unet.py", "cosines before sines in the noise level",
            "w.sin(), w.cos()", "w.cos(), w.sin()"),
    Mistake("unet.py", "scale and shift swapped",
            "scale, shift = self.linear(", "shift, scale = self.linear("),
    Mistake("unet.py", "modulation's norm over time",
            "return channel_norm(x) *", "return channel_norm(x.mT).mT *"),
    Mistake("unet.py", "the latent injected on the way down only",
            "for group in self.items_up:\n            y = group(y, features, latent, embedding)",
            "for group in self.items_up:\n            y = group(y, features, None, embedding)"),
    Mistake("unet.py", "the latent replaces what it should join",
            "return x + self.conv(torch.cat(", "return self.conv(torch.cat("),
    Mistake("attention.py", "wrong head order",
            "self.to_q(self.norm(y)).unflatten(-1, (self.heads, -1)).transpose(1, 2)",
            "self.to_q(self.norm(y)).unflatten(-1, (-1, self.heads)).permute(0, 3, 1, 2)"),
    Mistake("attention.py", "keys and values swapped",
            "k, v = self.to_kv(", "v, k = self.to_kv("),
    Mistake("attention.py", "one norm for queries and context",
            "self.to_kv(self.norm_context(context))",
            "self.to_kv((self.norm_context if self.is_cross else self.norm)(context))"),
    Mistake("attention.py", "padding of the text not masked",
            "word_mask(context) if self.is_cross else None", "None"),
    Mistake("attention.py", "written-out attention without its scale",
            "(q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)", "q @ k.transpose(-2, -1)"),
    Mistake("unet.py", "the skip not scaled",
            "return x + self.skip(F.silu(features))[..., None] * y", "return x + y"),
    Mistake("unet.py", "upsampled after the convolution, not before",
            "self.up(y.repeat_interleave(self.factor, dim=-1))", "self.up(y).repeat_interleave(self.factor, dim=-1)"),
    Mistake("shapes.py", "a length that fits padded all the same",
            "return -(-length // stride) * stride", "return (length // stride + 1) * stride"),
    # stage 1
    Mistake("small/encoder.py", "tanh left out",
            "return torch.tanh(x)", "return x"),
    Mistake("dmae.py", "padded in front of the sound",
            "F.pad(w, (0, length - w.shape[-1]))", "F.pad(w, (length - w.shape[-1], 0))"),
    Mistake("dmae.py", "the core's tanh left out",
            "return torch.tanh(self.to_out(x))", "return self.to_out(x)"),
    Mistake("dmae.py", "the core's encoder left out of training",
            "z = self.encode_crop(w)\n", "z = self.encode_crop(w).detach()\n"),
    Mistake("dmae.py", "one noise level for the core's whole batch",
            "torch.rand(len(w), generator=generator).to(w)",
            "torch.rand(1, generator=generator).repeat(len(w)).to(w)"),
    Mistake("dmae.py", "the whole pass cut at its beginning",
            "eps, steps)[..., :length]", "eps, steps)[..., -length:]"),
    Mistake("small/dmae.py", "the encoder left out of training",
            "self.head.hidden(self.encoder(m_w).to(x_0))", "self.head.hidden(self.encoder(m_w).to(x_0).detach())"),
    Mistake("small/dmae.py", "the network trained on bands of their own size",
            "x_0 = octave / band_size(log_size)", "x_0 = octave"),
    Mistake("small/encoder.py", "the head's loss by power alone, not by mel",
            "return 1 / (1 + frequencies / 700)", "return 1 + 0 * frequencies"),
    Mistake("small/dmae.py", "the contrast left out",
            "log_m, self.config.magnitude_contrast)", "log_m, 1.0)"),
    Mistake("small/dmae.py", "contrast over channels instead of time",
            ".mean(-1, keepdim=True)  # linear", ".mean(1, keepdim=True)  # linear"),
    Mistake("small/refinement.py", "each channel given a share of itself",
            "config.phase_share * w.flip(1)", "config.phase_share * w"),
    Mistake("inference/long.py", "the diffused signal given for the waveform",
            "w = to_wave(dmae, x_0, w)", "w = x_0"),
    Mistake("inference/long.py", "a later part of the wave begun from nothing",
            "to_wave(dmae, x_0, w)", "to_wave(dmae, x_0)"),
    Mistake("small/dmae.py", "frames of the magnitude late by those before the step",
            "[..., a - frames * first :][..., : b - a]", "[..., : b - a]"),
    Mistake("small/refinement.py", "parts refined without a margin",
            "margin = -(-", "margin = 0 * -(-"),
    Mistake("small/refinement.py", "a step of refinement too many",
            "range(config.refinement_steps)", "range(config.refinement_steps + 1)"),
    Mistake("small/encoder.py", "the floor left in magnitudes that are read",
            "(torch.exp(2 * log_m - 4) - floor)", "torch.exp(2 * log_m - 4)"),
    Mistake("small/encoder.py", "the encoder's straight path left out",
            "x = x + self.straight(m_w)", "x = x + 0 * self.straight(m_w)"),
    Mistake("small/dmae.py", "the raw waveform diffused in training",
            "octaves = self.octaves.analyse(self.emphasised(w))", "octaves = self.octaves.analyse(w)"),
    Mistake("small/dmae.py", "pre-emphasis undone with the wrong sign",
            "w.new_tensor([1.0, -p])", "w.new_tensor([1.0, p])"),
    Mistake("small/dmae.py", "one noise level for the whole batch",
            "sigma = torch.rand(len(w), generator=generator).to(w)\n        losses",
            "sigma = torch.rand(1, generator=generator).repeat(len(w)).to(w)\n        losses"),
    Mistake("diffusion.py", "uniform noise for Gaussian",
            "return torch.randn(x.shape,", "return torch.rand(x.shape,"),
    Mistake("small/dmae.py", "the pre-training a step too long",
            "if step < self.config.encoder", "if step <= self.config.encoder"),
    Mistake("inference/long.py", "every window decoded from the first latents",
            "parts = torch.cat([z[..., a // stride : b // stride] for a, b in spans])",
            "parts = torch.cat([z[..., : (b - a) // stride] for a, b in spans])"),
    Mistake("inference/long.py", "the decoded sound cut at its beginning",
            "yield part[..., :length]", "yield part[..., -length:]"),
    # stage 2
    Mistake("tcld.py", "nine tenths of the texts dropped, not one",
            "< self.config.mask_share", "> self.config.mask_share"),
    Mistake("tcld.py", "text dropped for the whole batch at once",
            "masked = torch.rand(len(z), generator=generator)", "masked = torch.rand(1, generator=generator)"),
    Mistake("tcld.py", "the embedding of no text not learned",
            "device), self.null_embedding, embedding)", "device), self.null_embedding.detach(), embedding)"),
    Mistake("tcld.py", "guided and unguided halves mistaken for one another",
            "v_uncond, v_cond = ", "v_cond, v_uncond = "),
    Mistake("tcld.py", "latents and texts of the batched call out of step",
            "x.repeat(2, 1, 1)", "x.repeat_interleave(2, dim=0)"),
    Mistake("tcld.py", "sampled latents left at unit size",
            "return self.latent_std * x_0[..., :length]", "return x_0[..., :length]"),
    Mistake("inference/long.py", "latents of windows left at unit size",
            "(tcld.latent_std * x_0)[..., :length]", "x_0[..., :length]"),
    Mistake("tcld.py", "guided without the text",
            "torch.cat([null, embedding])", "torch.cat([null, null])"),
    Mistake("generate.py", "one window by another seed than asked",
            "torch.Generator().manual_seed(seed)", "torch.Generator().manual_seed(0)"),
    # text
    Mistake("text.py", "the attention mask not given to the text encoder",
            "attention_mask=mask.to(device)", "attention_mask=torch.ones_like(mask).to(device)"),
    Mistake("text.py", "states of padding passed on as words",
            "F.pad(states * mask[..., None].to(states)", "F.pad(states"),
    Mistake("text.py", "a prompt that just fits refused",
            "if len(ids) > self.config.tokens:", "if len(ids) >= self.config.tokens:"),
    Mistake("text.py", "the text encoder trained along",
            "model.eval().requires_grad_(False)", "model.eval()"),
    # training
    Mistake("train.py", "EMA before the step",
            "        optimizer.step()\n        optimizer.zero_grad()\n        ema.update(model, step + 1)\n",
            "        ema.update(model, step + 1)\n        optimizer.step()\n        optimizer.zero_grad()\n"),
    Mistake("training/loop.py", "EMA before the step of a long run",
            "            state.history.append(stepper(step))\n            done = step + 1\n"
            "            state.ema.update(state.model, done)\n",
            "            done = step + 1\n            state.ema.update(state.model, done)\n"
            "            state.history.append(stepper(step))\n"),
    Mistake("train.py", "EMA's step counted from 0",
            "ema.update(model, step + 1)", "ema.update(model, step)"),
    Mistake("train.py", "EMA's weights exchanged",
            "average.lerp_(current, 1 - beta)", "average.lerp_(current, beta)"),
    Mistake("train.py", "EMA of a shallow copy",
            "copy.deepcopy(model)", "copy.copy(model)"),
    Mistake("train.py", "gradients never set to zero",
            "    optimizer.zero_grad()\n", ""),
    Mistake("train.py", "the same noise in every step",
            "np.random.SeedSequence([seed, step])", "np.random.SeedSequence([seed, 0])"),
    Mistake("training/optimizer.py", "the optimizer's memory lost in resuming",
            "    optimizer.load_state_dict({**optimizer.state_dict(), \"state\": states})\n", ""),
    Mistake("training/optimizer.py", "the paper's betas not given to AdamW",
            "config.lr, config.betas, config.eps", "config.lr, eps=config.eps"),
    Mistake("training/loop.py", "the encoder's learning-rate scale ignored",
            'group["lr"] = lr * group["lr_scale"]', 'group["lr"] = lr'),
    Mistake("training/optimizer.py", "the encoder's learning-rate scale given to the rest",
            '"lr_scale": 1.0}, {"params": encoder, "lr_scale": encoder_lr_scale}',
            '"lr_scale": encoder_lr_scale}, {"params": encoder, "lr_scale": 1.0}'),
    Mistake("training/activation_checkpointing.py", "blocks inside a checkpointed block checkpointed too",
            "        else:\n            yield from outermost_blocks(module)",
            "        yield from outermost_blocks(module)"),
    Mistake("training/activation_checkpointing.py", "checkpointing asked for and not done",
            "list(outermost_blocks(model)) if on else []", "[]"),
    Mistake("bench/plan.py", "one moment a weight for two",
            '"optimizer": 2 * weights', '"optimizer": weights'),
    Mistake("bench/plan.py", "of two checkpoints one counted",
            "2 * (4 * sizes[stage]) + sizes[stage]", "4 * sizes[stage] + sizes[stage]"),
    Mistake("training/loop.py", "accumulated gradients summed, not averaged",
            "* accelerator.num_processes / config.accumulate  #", "* accelerator.num_processes  #"),
    Mistake("training/loop.py", "the same noise in every accumulated batch",
            "step_generator(self.seed, number)", "step_generator(self.seed, step)"),
    Mistake("training/loop.py", "gradients never clipped",
            "config.max_grad_norm or math.inf", "math.inf"),
    Mistake("train.py", "the schedule not restarted",
            "            step -= start\n            steps -= start\n", "            pass\n"),
    Mistake("training/loop.py", "a gradient that is not finite let through",
            'check_finite("gradient", float(norm), step, config.lr)', "float(norm)"),
    Mistake("training/resume.py", "a damaged file that takes the good one's place",
            'os.replace(path, folder / "last.safetensors")  #', "pass  #"),
    Mistake("training/loop.py", "a new run begun in another's folder",
            "if folder and not run.resume:", "if False:"),
    Mistake("training/loop.py", "validation of the weights of the moment",
            "callback(done, state.ema.model)", "callback(done, state.model)"),
    Mistake("inference/precision.py", "bfloat16 where the hardware has none",
            "if pays is not None and pays(device)", "if pays is not None"),
    Mistake("inference/precision.py", "fast without a measurement",
            '"fast": bfloat16_pays', '"fast": native_bfloat16'),
    # any length
    Mistake("inference/windows.py", "a chunk given only the window that begins with it",
            "for chunk in self.waiting[i:]:", "for chunk in self.waiting[i : i + 1]:"),
    Mistake("inference/windows.py", "what earlier windows said kept for the next call",
            "self.total.zero_()", "pass"),
    Mistake("inference/windows.py", "a window placed where its piece begins",
            "self.a - a : self.b - a", "0 : self.b - self.a"),
    Mistake("inference/windows.py", "every row the same noise",
            "rows.append(torch.Generator().set_state(generator.get_state()))",
            "rows.append(torch.Generator().set_state((rows[0] if rows else generator).get_state()))"),
    Mistake("inference/windows.py", "all noise drawn before the first piece is done",
            "spans = [*pairwise([*starts, length])]",
            "spans = [*pairwise([*starts, length])]\n        drawn = {a: noise(a, b) for a, b in spans}\n"
            "        noise = lambda a, b: drawn[a]"),
    Mistake("inference/acceleration.py", "all of a stage in bfloat16",
            "else accelerated(child, torch.float32)", "else accelerated(child, kind)"),
    Mistake("inference/acceleration.py", "all pairs written out, however many",
            "few = q.dtype == torch.bfloat16 and q.shape[-2] * k.shape[-2] <= FEW_PAIRS",
            "few = q.dtype == torch.bfloat16"),
    Mistake("inference/acceleration.py", "the latent's channels before the signal's, channels-last",
            "torch.cat([y, upsampled], dim=-1)", "torch.cat([upsampled, y], dim=-1)"),
    Mistake("inference/windows.py", "a window that is asked with others given another's answer",
            "zip(starts, v_hat.chunk(ready), strict=True)", "zip(starts, v_hat.chunk(ready)[::-1], strict=True)"),
    Mistake("inference/windows.py", "all windows that are ready asked at once",
            "min(self.together, ready - len(through))", "ready - len(through)"),
    Mistake("inference/windows.py", "one window at a time",
            "min(self.together, ready - len(through))", "1"),
    Mistake("inference/windows.py", "one level for as many windows as there are",
            "sigma.repeat(ready)", "sigma"),
    Mistake("inference/long.py", "every window conditioned on the first one's latent",
            "for found in (condition(*span) for span in spans)",
            "for found in (condition(*spans[0]) for span in spans)"),
    Mistake("inference/onednn.py", "channels of a norm no longer innermost",
            "super().forward(input[:, :, None])[:, :, 0]", "super().forward(input)"),
    Mistake("inference/onednn.py", "the stride of a convolution left out",
            "(1, conv.stride[0])", "(1, 1)"),
    Mistake("inference/onednn.py", "the bias of a linear layer left out",
            "self.weight, self.bias, *NO_POINTWISE)\n        return refuse_backward(y.mT",
            "self.weight, None, *NO_POINTWISE)\n        return refuse_backward(y.mT"),
    Mistake("inference/onednn.py", "the other library given what it cannot multiply",
            "x.dtype != torch.float32 or ", ""),
    Mistake("inference/acceleration.py", "cached modulation of another noise level",
            "output[row : row + 1] for", "output[-1 - row :][:1] for"),
    Mistake("inference/long.py", "every window conditioned on the first part",
            "tuple(part_of_window(starts.index(a), len(starts), len(parts)) for a, _ in spans)", "(0,) * len(spans)"),
    Mistake("inference/long.py", "guided outside of its levels, not within",
            "and not how.low <= sigma[0] <= how.high", "and how.low <= sigma[0] <= how.high"),
    Mistake("inference/samplers.py", "the guided prediction's standard deviation kept",
            "torch.lerp(torch.ones_like(ratio), ratio, share)", "torch.ones_like(ratio)"),
    Mistake("inference/pipeline.py", "a segment tag added although the prompt has its own",
            "text if SEGMENT_TAG.search(text) else ", ""),
    Mistake("evaluation/solvers.py", "an interval that reaches past the margin counts as inside",
            "-margin < low and high < margin", "-margin < value < margin"),
    Mistake("evaluation/solvers.py", "half of the shortest solver may pass too",
            "self.seed_passes and self.half_fails", "self.seed_passes"),
    Mistake("evaluation/solvers.py", "a measure that does not miss the network may claim",
            "self.half_fails and self.removed_fails", "self.half_fails"),
    Mistake("small/pca.py", "the PCA's frames out of order",
            "(synthesis.view(channels, frames, inside) / weight).permute(2, 1, 0)",
            "(synthesis.view(channels, frames, inside).flip(1) / weight).permute(2, 1, 0)"),
    Mistake("small/pca.py", "the PCA's mean left in the latent",
            "straight.bias.copy_(-analysis @ mean)", "straight.bias.zero_()"),
    Mistake("small/pca.py", "the PCA's spread undone at one end alone",
            "for s in (spread, 1 / spread)", "for s in (spread, 1 + 0 * spread)"),
    Mistake("training/validation.py", "another noise in every watch",
            "return torch.Generator().manual_seed(profile.seed)", "return torch.Generator().manual_seed(torch.seed())"),
    Mistake("training/validation.py", "what was measured first for what was last",
            "self.table.step == self.table.step.max()", "self.table.step == self.table.step.min()"),
    Mistake("training/validation.py", "nothing shuffled",
            "loss(condition.roll(1, 0))", "loss(condition)"),
    Mistake("training/validation.py", "the last weights kept for the best",
            'if self.row["loss"] < before:', "if True:"),
    Mistake("training/validation.py", "clips of another chunk's prompt",
            "for i in picks]", "for i in sorted(picks)]"),
    Mistake("training/setup.py", "variance for standard deviation of the latents",
            "model.latent_std.copy_(latents.std())", "model.latent_std.copy_(latents.std() ** 2)"),
    Mistake("training/setup.py", "captions beside other chunks' latents",
            "        for i in picks:\n", "        for i in sorted(picks):\n"),
    Mistake("training/setup.py", "training from nothing, not from the weights named",
            "load_weights(model, run.start)\n    model.latent_std",
            "load_weights(new_tcld(profile), run.start)\n    model.latent_std"),
    Mistake("training/setup.py", "stage 1 trained from nothing, not from the weights named",
            "load_weights(model, run.start)\n    elif", "load_weights(new_dmae(profile.dmae), run.start)\n    elif"),
    Mistake("training/setup.py", "weights gone on from undone by the start from PCA",
            "    elif isinstance(model, SmallDMAE)", "    if isinstance(model, SmallDMAE)"),
    Mistake("training/setup.py", "weights gone on from with encoder pre-training",
            "        profile = pretrained_for(profile, 0)\n", "        pass\n"),
    Mistake("training/setup.py", "the schedule of weights gone on from restarted on the way",
            "replace(profile.dmae_train, schedule_restart=min(profile.dmae_train.schedule_restart, steps))",
            "profile.dmae_train"),
    Mistake("training/export.py", "hours of the weights gone on from forgotten",
            "round(hours + earlier, 3)", "round(hours, 3)"),
    # metrics
    Mistake("evaluation/distance.py", "Frechet distance: the root subtracted once",
            "- 2 * root", "- root"),
    Mistake("evaluation/mfcc.py", "MFCC statistics in units of the mean, not the spread",
            "mfcc_rows(reference).std(axis=0)", "mfcc_rows(reference).mean(axis=0)"),
    Mistake("evaluation/genre.py", "rows and columns of the confusion swapped",
            "matrix[genres.index(row), genres.index(column)]", "matrix[genres.index(column), genres.index(row)]"),
    Mistake("evaluation/statistics.py", "a 90 % interval called 95 %",
            "[2.5, 97.5]", "[5, 95]"),
    Mistake("evaluation/statistics.py", "clips of one piece resampled apart",
            "range(len(values)) if groups is None else groups", "range(len(values))"),
    Mistake("evaluation/statistics.py", "twenty of twenty are certain", "if value in (0, 1):", "if value in ():"),
    Mistake("evaluation/structure.py", "the body judged by its loudest segment, not by its quietest",
            "a[1:-1].min() - max(a[0], a[-1])", "a[1:-1].max() - max(a[0], a[-1])"),
    Mistake("training/network_ratio.py", "another's latent kept from the head",
            "error(dmae.condition(other, injected=z))", "error(dmae.condition(z, injected=z))"),
    Mistake("evaluation/clap.py", "CLAP score with the text of the clip before",
            "return (audio * texts).sum(dim=1)", "return (audio * texts.roll(1, 0)).sum(dim=1)"),
    Mistake("evaluation/in_domain.py", "the end of a clip never embedded",
            "round(i * (time - length) / (count - 1))", "round(i * (time - length) / count)"),
    Mistake("evaluation/in_domain.py", "the in-domain model trained in one direction only",
            "(to_text.mean() + to_audio.mean()) / 2", "to_text.mean()"),
    Mistake("bench/efficiency.py", "time per audio upside down",
            '"time_per_audio": median / audio_seconds,', '"time_per_audio": audio_seconds / median,'),
    Mistake("evaluation/samples.py", "clips kept although the refinement changed",
            "return hashes | after |", "return hashes |"),
    Mistake("evaluation/real.py", "the originals all from the first pieces",
            "for i, piece in enumerate(pieces):", "for i, piece in enumerate(pieces[:1]):"),
    Mistake("evaluation/real.py", "other real music that is the same",
            "pieces[len(pieces) // 2 :]", "pieces[: len(pieces) // 2]"),
    Mistake("bench/riffusion.py", "one clip for any length",
            "math.ceil(seconds / CLIP_SECONDS)", "1"),
    Mistake("bench/efficiency.py", "the cold call timed too",
            "quartiles(seconds[1:])", "quartiles(seconds[:-1])"),
    Mistake("bench/paper_size.py", "the paper's windows without overlap",
            "3 * crop // 4", "crop"),
    # people
    Mistake("evaluation/baselines.py", "Riffusion's pictures the right way up",
            "pictures[..., 0].flip(1)", "pictures[..., 0]"),
    Mistake("evaluation/baselines.py", "one of Riffusion's pictures too few",
            "math.ceil(seconds * RATE / PART)", "int(seconds * RATE / PART)"),
    Mistake("listening/page.py", "clips as loud as they are",
            "w * (level / size) for w, size", "w * (level / max(rms)) for w, size"),
    Mistake("listening/page.py", "a peak beyond full scale",
            "level = min([RMS, *(", "level = max([RMS, *("),
    Mistake("listening/page.py", "clips in the order of their models",
            "genres_of(key), dict(sorted(sounds.items()))", "genres_of(key), sounds"),
    Mistake("listening/page.py", "a clip's name that another study gives it too",
            'f"{seed} ".encode() + sound', "sound"),
    Mistake("listening/page.py", "a rating of 0 let through",
            "not 1 <= value <= 5", "not 0 <= value <= 5"),
    Mistake("listening/page.py", "a listener counted twice",
            "    seen[listener] = path\n", "    seen[path] = path\n"),
    Mistake("reproduce/verify.py", "pictures of one size taken for the same",
            "bool(np.abs(ours - theirs).max() < (LEVELS + 0.5) / 255)", "True"),
    Mistake("reproduce/verify.py", "a file that was touched passed over",
            "sha256(out / file) != digest", "False"),
    Mistake("reproduce/verify.py", "a table drawn by hand passed over",
            "sha256(out / name) != sha256(path)", "False"),
    Mistake("listening/answers.py", "answers about one tune drawn apart",
            'bootstrap(values, key["seed"], titles)', 'bootstrap(values, key["seed"])'),
    Mistake("listening/answers.py", "real music's answers taken for ours",
            '"" if model == "ours" else', '"" if model == "real" else'),
    Mistake("report/model_cards.py", "the first run's note and no other",
            "for i, run in enumerate(runs, 1) if", "for i, run in enumerate(runs[:1], 0) if"),
    Mistake("report/cache.py", "a module that an imported one imports forgotten",
            "                    waiting.append(modules[path])\n", ""),
    Mistake("report/cache.py", "a docstring taken for code",
            "node.body = node.body[1:] or [ast.Pass()]", "pass"),
    Mistake("report/cache.py", "a module that is run by its name forgotten",
            "code.imports | run_by_name", "code.imports"),
    Mistake("reproduce/preflight.py", "the user's own data in a rehearsal",
            'os.environ.pop("MOUSAI_DATA", None)', 'os.environ.get("MOUSAI_DATA")'),
    Mistake("reproduce/preflight.py", "weights of an older profile kept",
            '.get("config") == config', '.get("config") is not None'),
    Mistake("report/results.py", "another profile's results overwritten",
            "if other != profile:", "if other is None:"),
    Mistake("small/stages.py", "a rehearsal's weights beside the package's",
            "files.runs_dir() if profile.rehearsal else PACKAGE", "PACKAGE"),
    Mistake("small/stages.py", "a rehearsal's weights taken for trained ones",
            "and not profile.rehearsal:", "and profile.rehearsal:"),
    # data
    Mistake("data/records.py", "a stranger's file outside of the folder let through",
            'and ".." not in place.parts ', ""),
    Mistake("data/records.py", "a stranger's fields of any kind let through",
            "if not isinstance(getattr(", "if False and not isinstance(getattr("),
    Mistake("data/decoded.py", "the right channel lost",
            "block[:, [0, count - 1]]", "block[:, [0, 0]]"),
    Mistake("data/decoded.py", "the resampler begun anew in every block",
            "resampler.resample_chunk(stereo(block, channels)).T",
            'soxr.resample(stereo(block, channels), rate, SAMPLE_RATE).T'),
    Mistake("data/splits.py", "an artist in several splits",
            "names[by].casefold()", "names[by]"),
    Mistake("data/archives.py", "members of an archive that climb out of it",
            '".." in re.split(r"[/\\\\]", name)', "False"),
    Mistake("data/imported.py", "what was damaged since taken for done",
            "sha256(out / record.file) == record.sha256", "True"),
    Mistake("checkpoint.py", "a card of any kind let through",
            "isinstance(number, int | float)", "True"),
    Mistake("training/resume.py", "the old state moved before the new one is whole",
            "    save_tensors(tensors, new,",
            "    _ = os.replace(last, previous) if last.is_file() else None\n    save_tensors(tensors, new,"),
    Mistake("training/loop.py", "the mean of processes taken twice",
            "* accelerator.num_processes / config.accumulate  #", "/ config.accumulate  #"),
    Mistake("data/records.py", "nine tenths of the caption dropped, not one",
            ">= np.where(", "< np.where("),
    Mistake("data/records.py", "the title dropped no more than the rest",
            "np.where(order == 0, title_drop, DROP)", "np.where(order == 0, DROP, DROP)"),
    Mistake("data/records.py", "the last element dropped in the title's place",
            "order == 0", "order == len(order) - 1"),
    Mistake("data/records.py", "captions never shuffled",
            "order = rng.permutation(len(parts))", "order = range(len(parts))"),
    Mistake("data/records.py", "chunks out of step with their tags",
            "(k - 1) * length, length, root)", "(record.chunks - k) * length, length, root)"),
    Mistake("data/clips.py", "the same crops in every step",
            "[self.seed, step])\n        waves", "[self.seed])\n        waves"),
    Mistake("data/clips.py", "chunks of a manifest out of step with their number",
            "return self.records[piece], number + 1", "return self.records[piece], number"),
    Mistake("data/shards.py", "the same order in every epoch",
            "default_rng([self.seed, epoch]) ... default_rng([self.seed, epoch, window + 1])",
            "default_rng([self.seed]) ... default_rng([self.seed, window + 1])"),
    Mistake("data/shards.py", "a batch that shares records with the next",
            "range(number * size, (number + 1) * size)", "range(number, number + size)"),
    Mistake("data/shards.py", "records of a window not shuffled",
            ".permutation(records)", ".permutation(1) * 0 + records"),
    Mistake("data/shards.py", "any shard taken for the one that the index means",
            "if not seen and sha256(path)", "if seen and sha256(path)"),
    Mistake("data/shards.py", "a stranger's shard outside of the folder let through",
            'r"\\w[\\w.-]{0,200}\\.tar"', 'r".*\\.tar"'),
    Mistake("data/packing.py", "a damaged shard taken for a finished one",
            "job.path.is_file() and sha256(job.path) == job.noted.sha256", "job.path.is_file()"),
    Mistake("data/packing.py", "sixteen bits rounded down, not to the nearest that was read",
            "(wave.T * 2**15).round()", "(wave.T * (2**15 - 1))"),
    Mistake("data/latents.py", "latents of another encoder taken for this one's",
            'file.metadata()["encoder"] == encoder and ', ""),
    Mistake("data/latents.py", "every process makes them all",
            "range(rank, len(parts), world)", "range(0, len(parts))"),
    Mistake("data/embedded.py", "a tune in two splits when it comes twice",
            "splits[i % len(tunes)]", "_splits(config, config.pieces)[i]"),
    # from prompt to file
    Mistake("inference/pipeline.py", "a latent step too few",
            "-(-samples // self.profile.dmae.latent_stride)", "max(1, samples // self.profile.dmae.latent_stride)"),
    Mistake("inference/sampling.py", "guidance 0 taken for no guidance given",
            "    if guidance is None:\n", "    if not guidance:\n"),
    Mistake("inference/pipeline.py", "the seed not used",
            "torch.Generator().manual_seed(seeds[i % len(seeds)])", "torch.Generator().manual_seed(0)"),
    # from sound to sound
    Mistake("inference/samplers.py", "towards a signal by the wrong triangle",
            "(alpha * x_sigma - x_0) / beta", "(x_sigma - alpha * x_0) / beta"),
    Mistake("inference/windows.py", "what is known made anew, and the rest kept",
            "torch.where(known.to(x.device), towards, predict(x, sigma, spans))",
            "torch.where(known.to(x.device), predict(x, sigma, spans), towards)"),
    Mistake("inference/windows.py", "begun from the sound without its noise",
            "return add_noise(self.x_0(a, b).expand_as(eps), eps, eps.new_full((len(eps),), self.start))",
            "return self.x_0(a, b).expand_as(eps)"),
    Mistake("inference/long.py", "the negative prompt ignored",
            "(tcld.null_embedding if negative is None else negative)", "tcld.null_embedding"),
    Mistake("inference/codec.py", "windows of the encoder without a fade",
            "cross_fade(width).float()", "torch.ones(width)"),
    Mistake("inference/editing.py", "a latent step kept of which a part is made anew",
            "(-(-a // stride), end)", "(a // stride, end)"),
    Mistake("inference/editing.py", "the way into a region faded backwards",
            "(at - start) / (region[0] - start)", "(region[0] - at) / (region[0] - start)"),
    Mistake("inference/editing.py", "stage 1 without the sound that is known",
            "        if not self.known:\n", "        if True:\n"),
    Mistake("inference/editing.py", "pre-emphasis begun anew in every window",
            "F.pad(part, (lead, b - a + 1 - lead - part.shape[-1])))[..., 1:]",
            "F.pad(part, (lead, b - a + 1 - lead - part.shape[-1]))[..., 1:])"),
    Mistake("inference/pipeline.py", "a variation in all of the steps",
            "max(1, round(init_audio.noise_level * sampling.tcld_steps))", "sampling.tcld_steps"),
    Mistake("inference/sampling.py", "stage 2's sampler for both stages",
            "dmae_sampler=dmae_sampler or", "dmae_sampler=tcld_sampler or"),
    Mistake("checkpoint.py", "the latents' spread saved in half precision",
            " and v.numel() > 1", ""),
    Mistake("small/stages.py", "stage 2's window counted in frames, not latent steps",
            "profile.tcld.crop // profile.dmae.latent_stride", "profile.tcld.crop // profile.dmae.hop"),
    # the authors' weights
    Mistake("interop/authors.py", "the norms of a ResNet swapped",
            '"norm1": "block.blocks.0.blocks.0.0" ... "norm2": "block.blocks.0.blocks.1.0"',
            '"norm2": "block.blocks.0.blocks.0.0" ... "norm1": "block.blocks.0.blocks.1.0"'),
    Mistake("interop/authors.py", "the way down taken for the way up",
            'in ("items_down", "items_up"): ... if side == "items_down"',
            'in ("items_up", "items_down"): ... if side == "items_up"'),
    # what a lesson shows
    Mistake("evaluation/attention.py", "a net left with the hooks that recorded it",
            "hook.remove()", "pass"),
    Mistake("evaluation/latents.py", "every channel moved, not one",
            "changed[:, channel] =", "changed[:] ="),
    Mistake("evaluation/latents.py", "another noise for the channel that is moved",
            "moved(z, c, by), steps, seed)) for c", "moved(z, c, by), steps, seed + 1)) for c"),
    Mistake("report/drawings.py", "shapes of a depth before it shortens time",
            "config.factors[: i + 1]", "config.factors[:i]"),
    Mistake("report/drawings.py", "training runs drawn over one another",
            'before += run["steps"]', "before += 0"),
    Mistake("report/interactive.py", "a widget left where nobody is",
            "if not report.live:", "if report.live is None:"),
    Mistake("report/panel.py", "a sound saved anywhere",
            "if Path(name).name != name:", "if not name:"),
]
# fmt: on


def main() -> int:
    options = arguments()
    chosen = [m for m in MISTAKES if options.only.lower() in f"{m.file}: {m.name}".lower()]
    if not chosen:
        raise SystemExit(f"no mistake of that name: {options.only!r}")
    if options.write:
        around_table(options.write)  # before the long wait
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        tree = copy_of_the_package(Path(folder))
        check_that_the_copy_is_tested(tree)
        every = list(dict.fromkeys(file for m in chosen for stage in stages(tree, m, options.quick) for file in stage))
        limit = HANG + check_that_the_clean_tree_is_green(tree, every)
        caught = [first_catch(tree, mistake, options.quick, limit) for mistake in chosen]
    if options.write:
        write_table(options.write, {(m.file, m.name): said(test) for m, test in zip(chosen, caught, strict=True)})
    survivors = [mistake for mistake, test in zip(chosen, caught, strict=True) if test is None]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mistakes caught")
    for mistake in survivors:
        print(f"survives: {mistake.file}: {mistake.name}")
    return 1 if survivors else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="PART", help="only mistakes with this in their file or name")
    parser.add_argument("--quick", action="store_true", help="only the file's own tests and parity")
    parser.add_argument("--write", type=Path, metavar="FILE", help="draw the rows of what was planted anew")
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("--write says what all tests catch: leave out --quick")
    return options


def copy_of_the_package(tree: Path) -> Path:
    """Package and tests, without what Python compiled; also whether every mistake still finds its text."""
    for mistake in MISTAKES:
        mistake.planted((ROOT / "mousai" / mistake.file).read_text("utf-8"))
    for name in ("mousai", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def stages(tree: Path, mistake: Mistake, quick: bool) -> list[list[str]]:
    """Test files in the order they are asked: the file's own, its room's, parity, all others."""
    room, _, name = f"core/{mistake.file}".removesuffix(".py").rpartition("/")
    room = room.removeprefix("core/") or "core"
    every = [file.relative_to(tree).as_posix() for file in sorted((tree / "tests").rglob("test_*.py"))]
    every = [file for file in every if Path(file).stem not in LEFT_OUT]
    own = [file for file in every if Path(file).stem == f"test_{name}"]
    neighbours = [file for file in every if Path(file).parent.name == room and file not in own]
    rest = [file for file in every if file not in (*own, *neighbours, PARITY)]
    asked = [own, neighbours, [] if room == "core" else [PARITY], [] if quick else rest]
    return [files for files in asked if files]


def check_that_the_copy_is_tested(tree: Path) -> None:
    """The tests must import the copy, not what is installed: a package that raises when imported must turn them red."""
    source = tree / "mousai" / "__init__.py"
    text = source.read_text("utf-8")
    source.write_text(f"{text}\nraise RuntimeError('planted')\n", "utf-8")
    code, output = run_tests(tree, [PARITY], HANG)
    source.write_text(text, "utf-8")
    if code == 0 or "RuntimeError: planted" not in output:
        raise SystemExit("the tests do not import the planted copy: is another mousai earlier on the path?")


def check_that_the_clean_tree_is_green(tree: Path, files: list[str]) -> float:
    """Seconds that these tests take where nothing is planted. Raises SystemExit where they fail."""
    start = time.monotonic()
    code, output = run_tests(tree, files, 24 * 3600)
    if code:
        raise SystemExit(f"nothing is planted and {failed_test(output)} is red: mend that first")
    seconds = time.monotonic() - start
    print(f"clean tree: {len(files)} test files green in {seconds:.0f} s", flush=True)
    return seconds


def first_catch(tree: Path, mistake: Mistake, quick: bool, limit: float) -> str | None:
    """The first test that the mistake turns red, None where there is none."""
    source, start, caught = tree / "mousai" / mistake.file, time.monotonic(), None
    text = source.read_text("utf-8")
    source.write_text(mistake.planted(text), "utf-8")
    for files in stages(tree, mistake, quick):
        code, output = run_tests(tree, files, limit)
        if code not in (0, 1):
            raise SystemExit(f"{mistake.file}: {mistake.name}: the tests cannot run:\n{output[-2000:]}")
        if code == 1:
            caught = failed_test(output)
            break
    source.write_text(text, "utf-8")
    seconds = time.monotonic() - start
    print(f"{seconds:4.0f} s  {mistake.file}: {mistake.name}: {caught or 'SURVIVES'}", flush=True)
    return caught


def run_tests(tree: Path, files: list[str], limit: float) -> tuple[int, str]:
    """pytest's exit code and output, up to the first failure; 1 and a line that says so where it takes too long."""
    command = [sys.executable, "-m", "pytest", "-x", "--tb=short", "--color=no", "-p", "no:cacheprovider"]
    # Nothing compiled or computed under one mistake may be found by the next.
    environment = {name: value for name, value in os.environ.items() if name != "MOUSAI_HOME"}
    environment |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [*command, "-m", CHOSEN, *files],
        cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return 1, f"FAILED {files[0]}::hangs\n"
    finally:
        if process.returncode is None:  # with the processes it started
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, output


def failed_test(output: str) -> str:
    """`test_file.py::test_name` of pytest's summary."""
    found = re.search(r"^(?:FAILED|ERROR) tests/(?:\w+/)*(\w+\.py(?:::\w+)*)", output, re.MULTILINE)
    return found[1] if found else output[-2000:]


def said(test: str | None) -> str:
    return f"`{test}`" if test else "**nothing**"


def around_table(path: Path) -> tuple[str, str, str]:
    """A Markdown file up to the first marker, between them, and from the second on. Raises SystemExit without them."""
    before, begin, rest = path.read_text("utf-8").partition(BEGIN)
    table, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path}: the markers are missing: put {BEGIN} and {END} where the table goes")
    return before + begin, table, end + after


def read_table(path: Path) -> dict[tuple[str, str], str]:
    """What caught which mistake, by file and name, in the order of the table."""
    rows = [line.strip("| ").split(" | ") for line in around_table(path)[1].splitlines() if line.startswith("|")]
    return {(file, name): test for file, name, test in rows[2:]}


def write_table(path: Path, caught: dict[tuple[str, str], str]) -> None:
    """Draw the table between a file's two markers: a row a mistake, the old one where this run did not plant it."""
    before, _, after = around_table(path)
    known = read_table(path) | caught
    rows = ["| planted in | mistake | caught first by |", "|---|---|---|"]
    rows += [f"| {m.file} | {m.name} | {known.get((m.file, m.name), '**not run**')} |" for m in MISTAKES]
    path.write_text("\n".join([before, "", *rows, "", after]), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
