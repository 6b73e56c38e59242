package stemforge.app;

import java.util.Arrays;

/** Adds the stems that are to be heard, with a short fade where one is switched. */
final class Mixer {
  private static final int FADE_SAMPLES = 441; // 10 ms: no click

  private final boolean[] solo;
  private final boolean[] mute;
  private final float[] gains;

  Mixer(int stems) {
    solo = new boolean[stems];
    mute = new boolean[stems];
    gains = new float[stems];
    Arrays.fill(gains, 1.0f);
  }

  synchronized void setSolo(int stem, boolean on) {
    solo[stem] = on;
  }

  synchronized void setMute(int stem, boolean on) {
    mute[stem] = on;
  }

  /** Whether a stem is to be heard: it is not muted, and where any is soloed, it is one of them. */
  synchronized boolean hears(int stem) {
    boolean any = false;
    for (boolean one : solo) {
      any |= one;
    }
    return !mute[stem] && (!any || solo[stem]);
  }

  /**
   * @param stems blocks of the same length, interleaved stereo
   * @return their sum
   */
  float[] mix(float[][] stems) {
    float[] out = new float[stems[0].length];
    for (int stem = 0; stem < stems.length; stem++) {
      float target = hears(stem) ? 1.0f : 0.0f;
      for (int n = 0; n < out.length; n += 2) {
        float step = 1.0f / FADE_SAMPLES;
        gains[stem] += Math.max(-step, Math.min(step, target - gains[stem]));
        out[n] += gains[stem] * stems[stem][n];
        out[n + 1] += gains[stem] * stems[stem][n + 1];
      }
    }
    return out;
  }
}
