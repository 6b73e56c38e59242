package stemforge;

import java.util.Arrays;

/**
 * Changes the sampling rate of a stereo song that comes block by block.
 *
 * <p>The same values as those of scipy.signal.resample_poly with its standard filter: a sinc with a
 * Kaiser window of beta 5, cut off at the lower Nyquist frequency, ten of its zeros to each side.
 */
public final class Resampler {
  private static final int CHANNELS = 2;
  private static final int ZEROS = 10;
  private static final double BETA = 5.0;

  private final int up;
  private final int down;
  private final int half; // of the filter, counted at `up` times the input's rate
  private final float[] taps;
  private float[] held = new float[0]; // the input that later outputs need, from `start` on
  private long start;
  private long samples; // in
  private long done; // out

  /**
   * @param fromHz rate of the input
   * @param toHz rate of the output
   */
  public Resampler(int fromHz, int toHz) {
    if (fromHz < 1 || toHz < 1) {
      throw new IllegalArgumentException(fromHz + " to " + toHz + " Hz: rates must be positive");
    }
    int divisor = greatestDivisor(fromHz, toHz);
    up = toHz / divisor;
    down = fromHz / divisor;
    half = ZEROS * Math.max(up, down);
    taps = up == down ? new float[0] : lowPass();
  }

  /**
   * @param block interleaved stereo
   * @return the output, interleaved, that no later input changes; may be empty
   */
  public float[] push(float[] block) {
    if (up == down) {
      return block;
    }
    int before = held.length;
    held = Arrays.copyOf(held, before + block.length);
    System.arraycopy(block, 0, held, before, block.length);
    samples += block.length / CHANNELS;
    // An output at m * down needs the inputs up to (m * down + half) / up.
    return emit((samples * up - half - 1) / down);
  }

  /** The rest: with all outputs before, ceil(samples * toHz / fromHz) samples. */
  public float[] finish() {
    return up == down ? new float[0] : emit((samples * up + down - 1) / down);
  }

  private float[] emit(long until) {
    if (until <= done) {
      return new float[0];
    }
    float[] out = new float[CHANNELS * (int) (until - done)];
    for (int n = 0; n < out.length; n += CHANNELS, done++) {
      long centre = done * down;
      long first = Math.max(0, Math.floorDiv(centre - half + up - 1, (long) up));
      long last = Math.min(samples - 1, (centre + half) / up);
      double left = 0.0;
      double right = 0.0;
      for (long sample = first; sample <= last; sample++) {
        double tap = taps[(int) (centre - sample * up) + half];
        int at = CHANNELS * (int) (sample - start);
        left += tap * held[at];
        right += tap * held[at + 1];
      }
      out[n] = (float) left;
      out[n + 1] = (float) right;
    }
    long needed = Math.max(start, Math.min(samples, (done * down - half) / up));
    held = Arrays.copyOfRange(held, CHANNELS * (int) (needed - start), held.length);
    start = needed;
    return out;
  }

  private float[] lowPass() {
    double[] filter = new double[2 * half + 1];
    double total = 0.0;
    for (int n = -half; n <= half; n++) {
      double x = Math.PI * n * ZEROS / half;
      double sinc = n == 0 ? 1.0 : Math.sin(x) / x;
      double across = (double) n / half;
      filter[n + half] = sinc * bessel(BETA * Math.sqrt(1.0 - across * across));
      total += filter[n + half];
    }
    float[] scaled = new float[filter.length];
    for (int n = 0; n < scaled.length; n++) {
      scaled[n] = (float) (filter[n] * up / total);
    }
    return scaled;
  }

  /** The modified Bessel function of the first kind and order zero, by its power series. */
  private static double bessel(double x) {
    double sum = 1.0;
    double term = 1.0;
    for (int k = 1; term > 1e-17 * sum; k++) {
      term *= x / (2.0 * k) * (x / (2.0 * k));
      sum += term;
    }
    return sum;
  }

  private static int greatestDivisor(int a, int b) {
    return b == 0 ? a : greatestDivisor(b, a % b);
  }
}
