package stemforge;

import java.util.Arrays;

/**
 * Separates a stereo song at 44.1 kHz that comes block by block; memory does not grow with it.
 *
 * <p>One window of zeros comes before the song. A frame starts at every hop before the song's end.
 * The nets process T frames at a time; the last part is padded with zeros. The size of the blocks
 * does not change the result.
 */
public final class StemSeparator {
  /** The nets: on Android, interpreters of the stems' .tflite files. */
  public interface Nets {
    /**
     * @param magnitudes [frames][bins][2], flat
     * @return for each stem magnitudes of the same layout, which the caller may change
     */
    float[][] estimate(float[] magnitudes);
  }

  private static final int CHANNELS = 2;

  private final Nets nets;
  private final Stft stft;
  private final int stems;
  private final int frames;
  private final int bins;
  private final int advance;
  private final float[][] input; // [channel][span]: the segment that fills up
  private final float[][][] output; // [stem][channel][span]: its stems, and the last one's end
  private int filled;
  private long samples; // in
  private long ready; // out, counted from the window of zeros on

  /**
   * @param nets the nets of all stems
   * @param stems number of stems
   * @param frames number of frames that the nets process at once, T
   * @param bins number of lowest bins that they use, F
   * @param stft the STFT, of 4096 and 1024 samples
   */
  public StemSeparator(Nets nets, int stems, int frames, int bins, Stft stft) {
    this.nets = nets;
    this.stft = stft;
    this.stems = stems;
    this.frames = frames;
    this.bins = bins;
    advance = frames * stft.hop;
    input = new float[CHANNELS][stft.span(frames)];
    output = new float[stems][CHANNELS][stft.span(frames)];
    filled = stft.length;
  }

  /**
   * @param block interleaved stereo, full scale at 1
   * @return the finished samples of each stem, interleaved; may be empty
   */
  public float[][] push(float[] block) {
    int count = block.length / CHANNELS;
    samples += count;
    float[][] out = new float[stems][0];
    for (int taken = 0; taken < count; ) {
      int some = Math.min(count - taken, input[0].length - filled);
      for (int n = 0; n < some; n++) {
        for (int channel = 0; channel < CHANNELS; channel++) {
          input[channel][filled + n] = block[CHANNELS * (taken + n) + channel];
        }
      }
      taken += some;
      filled += some;
      if (filled == input[0].length) {
        out = append(out, separate());
      }
    }
    return out;
  }

  /** The rest of each stem: with all results before, it is as long as the song. */
  public float[][] finish() {
    long wanted = stft.length + samples;
    float[][] out = new float[stems][0];
    while (ready < wanted) {
      for (float[] channel : input) {
        Arrays.fill(channel, filled, channel.length, 0.0f);
      }
      out = append(out, separate());
    }
    for (int stem = 0; stem < stems; stem++) {
      int extra = (int) (ready - wanted) * CHANNELS;
      out[stem] = Arrays.copyOf(out[stem], out[stem].length - extra);
    }
    return out;
  }

  /** Separates the segment in the input, and moves on by T hops. */
  private float[][] separate() {
    double[][][] real = new double[frames][CHANNELS][stft.bins];
    double[][][] imaginary = new double[frames][CHANNELS][stft.bins];
    float[] magnitudes = new float[frames * bins * CHANNELS];
    for (int t = 0; t < frames; t++) {
      for (int channel = 0; channel < CHANNELS; channel++) {
        double[] re = real[t][channel];
        double[] im = imaginary[t][channel];
        stft.analyse(input[channel], t * stft.hop, re, im);
        for (int bin = 0; bin < bins; bin++) {
          magnitudes[(t * bins + bin) * CHANNELS + channel] =
              (float) Math.sqrt(re[bin] * re[bin] + im[bin] * im[bin]);
        }
      }
    }
    float[][] masks = nets.estimate(magnitudes);
    Masks.fromEstimates(masks, magnitudes);
    double[] re = new double[stft.bins]; // above the nets' highest bin: silence
    double[] im = new double[stft.bins];
    float[][] out = new float[stems][];
    for (int stem = 0; stem < stems; stem++) {
      for (int t = 0; t < frames; t++) {
        for (int channel = 0; channel < CHANNELS; channel++) {
          for (int bin = 0; bin < bins; bin++) {
            float mask = masks[stem][(t * bins + bin) * CHANNELS + channel];
            re[bin] = mask * real[t][channel][bin];
            im[bin] = mask * imaginary[t][channel][bin];
          }
          stft.synthesise(re, im, output[stem][channel], t * stft.hop);
        }
      }
      out[stem] = takeReady(output[stem]);
    }
    for (float[] channel : input) {
      shift(channel);
    }
    filled = Math.max(0, filled - advance);
    ready += advance;
    return out;
  }

  /** What no later segment changes, but for the window of zeros in front of the song. */
  private float[] takeReady(float[][] channels) {
    int skipped = (int) Math.min(advance, Math.max(0, stft.length - ready));
    float[] out = new float[CHANNELS * (advance - skipped)];
    for (int channel = 0; channel < CHANNELS; channel++) {
      for (int n = skipped; n < advance; n++) {
        out[CHANNELS * (n - skipped) + channel] = channels[channel][n];
      }
      shift(channels[channel]);
    }
    return out;
  }

  private void shift(float[] channel) {
    System.arraycopy(channel, advance, channel, 0, channel.length - advance);
    Arrays.fill(channel, channel.length - advance, channel.length, 0.0f);
  }

  private static float[][] append(float[][] before, float[][] after) {
    float[][] out = new float[before.length][];
    for (int stem = 0; stem < before.length; stem++) {
      out[stem] = Arrays.copyOf(before[stem], before[stem].length + after[stem].length);
      System.arraycopy(after[stem], 0, out[stem], before[stem].length, after[stem].length);
    }
    return out;
  }
}
