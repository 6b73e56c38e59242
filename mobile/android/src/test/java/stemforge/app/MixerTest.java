package stemforge.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;

import java.util.Arrays;
import org.junit.Test;

public final class MixerTest {
  private static float[] constant(float value) {
    float[] block = new float[2000];
    Arrays.fill(block, value);
    return block;
  }

  @Test
  public void addsAllStems() {
    float[] mixed = new Mixer(2).mix(new float[][] {constant(0.25f), constant(0.5f)});
    assertEquals(0.75f, mixed[0], 0.0f);
    assertEquals(0.75f, mixed[1999], 0.0f);
  }

  @Test
  public void fadesAMutedStemIn10Ms() {
    Mixer mixer = new Mixer(2);
    mixer.setMute(1, true);
    float[] mixed = mixer.mix(new float[][] {constant(0.25f), constant(0.5f)});
    for (int n = 1; n < 1000; n++) {
      float step = mixed[2 * n - 2] - mixed[2 * n];
      assertEquals(n < 440 ? 0.5 / 441 : 0.0, step, n == 440 || n == 441 ? 2e-3 : 1e-5);
      assertEquals(mixed[2 * n], mixed[2 * n + 1], 0.0f);
    }
    assertEquals(0.25f, mixed[1998], 1e-7f);
  }

  @Test
  public void soloAndMuteAreAMixingDesks() {
    Mixer mixer = new Mixer(3);
    mixer.setSolo(0, true);
    mixer.setSolo(1, true);
    mixer.setMute(1, true);
    assertTrue(mixer.hears(0));
    assertFalse(mixer.hears(1)); // muted, soloed or not
    assertFalse(mixer.hears(2)); // others are soloed
    mixer.setSolo(0, false);
    mixer.setSolo(1, false);
    assertTrue(mixer.hears(2));
  }
}
