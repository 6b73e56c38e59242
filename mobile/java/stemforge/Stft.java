package stemforge;

/**
 * Short-time Fourier transform of one channel with a periodic Hann window, and its inverse.
 *
 * <p>Frames start at multiples of the hop; nothing is centred and nothing is padded.
 */
public final class Stft {
  public final int length;
  public final int hop;
  /** Bins of a frame, length / 2 + 1. */
  public final int bins;

  private final double[] window;
  private final double synthesis; // what the overlapped squares of the windows add up to, inverted
  private final RealFft fft;
  private final double[] frame;

  /**
   * @param length window and FFT length in samples, a power of two; 4096 in all of our models
   * @param hop distance of frames in samples, which divides the length three times at least; 1024
   */
  public Stft(int length, int hop) {
    if (length % hop != 0 || length / hop < 3) {
      throw new IllegalArgumentException("hop " + hop + " must divide " + length + " thrice or more");
    }
    this.length = length;
    this.hop = hop;
    bins = length / 2 + 1;
    window = new double[length];
    for (int n = 0; n < length; n++) {
      window[n] = 0.5 - 0.5 * Math.cos(2.0 * Math.PI * n / length);
    }
    synthesis = 8.0 / (3.0 * (length / hop));
    fft = new RealFft(length);
    frame = new double[length];
  }

  /** Samples under that many frames. */
  public int span(int frames) {
    return (frames - 1) * hop + length;
  }

  /** Spectrum of the frame that starts at {@code samples[start]}, into arrays of {@code bins}. */
  public void analyse(float[] samples, int start, double[] real, double[] imaginary) {
    for (int n = 0; n < length; n++) {
      frame[n] = samples[start + n] * window[n];
    }
    fft.forward(frame, real, imaginary);
  }

  /** Adds the frame with that spectrum to {@code out}, from {@code start} on. */
  public void synthesise(double[] real, double[] imaginary, float[] out, int start) {
    fft.inverse(real, imaginary, frame);
    for (int n = 0; n < length; n++) {
      out[start + n] += (float) (frame[n] * window[n] * synthesis);
    }
  }
}
