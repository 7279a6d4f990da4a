"""Short runs that change one thing."""

from dataclasses import replace

from mousai.evaluation import study


def test_the_two_nets_of_the_attention_study_differ_in_self_attention_alone(tiny):
    nets = study.with_and_without_attention(tiny)
    (mine, without), tcld = (nets[name].tcld for name in ("attention", "no_attention")), tiny.tcld
    assert mine == replace(tcld, mask_share=1.0, unet=replace(tcld.unet, channels=(8, 8, 8)))
    assert without == replace(mine, unet=replace(mine.unet, attentions=(0, 0, 0))) != mine
