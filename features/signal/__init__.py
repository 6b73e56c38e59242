"""The signal operations that more than one package needs.

- framing: which samples belong to which frame
- stft: the STFT and its inverse
- stft_tf: the same in a TensorFlow graph
- masks: from magnitude estimates to shares of the mixture
"""
