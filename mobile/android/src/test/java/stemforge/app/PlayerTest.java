package stemforge.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;

import android.content.Context;
import android.net.Uri;
import android.os.Looper;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.function.BooleanSupplier;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.Shadows;
import org.robolectric.annotation.Config;
import org.robolectric.shadows.ShadowAudioTrack;

/** What reaches the phone's sound. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 35, shadows = {Phone.Extractor.class, Phone.Codec.class})
public final class PlayerTest implements StemPlayer.Listener {
  private static final int SAMPLES = 44100;

  private final Context context = RuntimeEnvironment.getApplication();
  private final List<Float> heard = Collections.synchronizedList(new ArrayList<>());
  private final List<String> said = new ArrayList<>();
  private StemPlayer player;
  private double movedS;
  private volatile boolean pausing;

  @Before
  public void install() {
    Phone.install();
    ShadowAudioTrack.addAudioDataListener(
        (track, bytes, format) -> {
          ByteBuffer values = ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder());
          while (values.hasRemaining()) {
            heard.add(values.getFloat());
          }
          if (pausing && heard.size() > 20_000) {
            player.pause();
          }
        });
    player = player(stem("vocals", 4096), stem("accompaniment", 8192));
  }

  @After
  public void close() {
    player.pause();
    ShadowAudioTrack.resetTest();
  }

  private StemPlayer player(Progress.Stem... stems) {
    return new StemPlayer(context, Progress.done("Song", Arrays.asList(stems), 1.0), this);
  }

  /** The level, and in the right channel the sample's number. */
  private Progress.Stem stem(String name, int level) {
    ByteBuffer pcm = ByteBuffer.allocate(4 * SAMPLES).order(ByteOrder.LITTLE_ENDIAN);
    for (int n = 0; n < SAMPLES; n++) {
      pcm.putShort((short) level).putShort((short) (n / 4));
    }
    return new Progress.Stem(name, Phone.document(name, Phone.MIME, pcm.array()));
  }

  @Override
  public void moved(double seconds) {
    movedS = seconds;
  }

  @Override
  public void stopped() {
    said.add("stopped");
  }

  @Override
  public void failed(String message) {
    said.add(message);
  }

  private void await(BooleanSupplier condition) throws InterruptedException {
    for (int tries = 0; !condition.getAsBoolean(); tries++) {
      assertTrue(said.toString(), tries < 2000);
      Thread.sleep(10);
      Shadows.shadowOf(Looper.getMainLooper()).idle();
    }
  }

  private void playToTheEnd() throws InterruptedException {
    player.play();
    await(() -> !said.isEmpty());
    assertEquals(Collections.singletonList("stopped"), said);
  }

  @Test
  public void playsAllStemsTogether() throws InterruptedException {
    playToTheEnd();
    assertEquals(2 * SAMPLES, heard.size());
    assertEquals(12288 / 32768.0f, heard.get(0), 0.0f);
    for (int n = 0; n < SAMPLES; n++) { // both stems are at the same place
      assertEquals(2 * (n / 4) / 32768.0f, heard.get(2 * n + 1), 1e-6f);
    }
    assertFalse(player.playing());
    assertEquals(0.0, player.positionS(), 0.0); // the next time from the start
    assertEquals(1.0, movedS, 1e-6);
  }

  @Test
  public void soloLeavesOneStem() throws InterruptedException {
    player.mixer().setSolo(1, true);
    playToTheEnd();
    assertEquals(8192 / 32768.0f, heard.get(2 * SAMPLES - 2), 1e-6f);
  }

  @Test
  public void seeksToTheSample() throws InterruptedException {
    player.seek(0.7);
    playToTheEnd();
    int first = Math.round(0.7f * SAMPLES);
    assertEquals(2 * (SAMPLES - first), heard.size());
    assertEquals(2 * (first / 4) / 32768.0f, heard.get(1), 1e-6f);
  }

  @Test
  public void continuesWhereItWasPaused() throws InterruptedException {
    pausing = true;
    player.play();
    await(() -> !player.playing());
    pausing = false;
    double paused = player.positionS();
    assertEquals(20_000 / 2.0 / SAMPLES, paused, 0.1);
    heard.clear();
    playToTheEnd();
    int first = (int) Math.round(paused * SAMPLES);
    assertEquals(2 * (SAMPLES - first), heard.size());
  }

  @Test
  public void saysThatAStemIsGone() throws InterruptedException {
    Uri gone = Phone.document("gone", Phone.MIME, new byte[8]);
    player = player(new Progress.Stem("vocals", gone));
    player.play();
    await(() -> !said.isEmpty());
    assertEquals(Collections.singletonList(context.getString(R.string.stem_gone)), said);
  }
}
