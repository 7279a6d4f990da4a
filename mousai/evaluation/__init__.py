"""How good is it: the metrics, one file each.

statistics    bootstrap and jackknife intervals
samples       clips with prompts: generated, noise, silence; cached on disk
real          real test music as clips, and its reconstruction by stage 1
griffin_lim   the baselines of stage 1: PCA + Griffin-Lim, and Griffin-Lim from z
baselines     the systems beside ours, Riffusion among them
in_domain     the in-domain audio-text model, trained here
laion         LAION-CLAP
musicnn       the embedding of a published tagger, read from its checkpoint
clap          Table 4: cosine between sound and prompt
genre, mfcc   Figure 5: zero-shot and MFCC classification, accuracy, Cohen's kappa
distance      Table 5: Fréchet and kernel distance between sets of embeddings
structure     Figure 6: level over the segments "1 of n" to "n of n"
segment_tags  whether a segment tag is followed: clips that rise or fall
copying       distance to the nearest training clip, the share of planted copies that it finds, and diversity
compression   what survives stage 1 best, and what half of its compression costs
attention     attention weights of a trained U-Net
latents       what a channel of z changes
seams         level where the windows of stage 1 overlap
solvers       quality against network evaluations
study         short runs that change one thing
"""
