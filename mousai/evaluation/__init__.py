"""How good is it: CLAP scores, a listener's genre choice, Frechet distance, loudness over time, seconds and memory.

statistics   bootstrap intervals
samples      the clips every metric looks at: generated, real, noise, silence, reconstruction
judge        the in-domain judge, a small contrastive audio-text model trained here
clap         Table 4: cosine between sound and prompt, by that judge or by LAION-CLAP
genre        Figure 5: who hears which genre; accuracy and Cohen's kappa; a second listener on MFCCs
listening    Figure 5 and Table 5 by people: a blind test on one page; what they answered
distance     Table 5: Frechet distance between sets of embeddings
structure    Figure 6: amplitude over the segments "1 of 4" to "4 of 4"; level, clipping, beginnings and endings
copying      is it new: distance to the nearest training clip, beside that of real test music
study        what makes a small DMAE learn: the variants of notebook 04
efficiency   Table 3: seconds and memory for 43.7 s of music
"""
