package stemforge.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import android.app.Notification;
import android.app.NotificationManager;
import android.content.Context;
import android.content.Intent;
import android.content.pm.ServiceInfo;
import android.net.Uri;
import android.os.Looper;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.Shadows;
import org.robolectric.android.controller.ServiceController;
import org.robolectric.annotation.Config;

/** The separation in the foreground, from its start to its end. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 35, shadows = {Phone.Extractor.class, Phone.Codec.class})
public final class ServiceTest {
  private final Context context = RuntimeEnvironment.getApplication();
  private Phone.Music music;

  @Before
  public void install() {
    Phone.install();
    music = Phone.installMusic();
  }

  /** The service with the intent that the screen sent. */
  private ServiceController<SeparationService> started(String name, byte[] pcm) {
    Uri uri = Phone.document(name, Phone.MIME, pcm);
    Model model = Assets.models(context).get(0);
    SeparationService.start(context, uri, "Song", model, StemFormat.WAV);
    return Robolectric.buildService(SeparationService.class, next()).create().startCommand(0, 1);
  }

  private Intent next() {
    return Shadows.shadowOf(RuntimeEnvironment.getApplication()).getNextStartedService();
  }

  private static void awaitEnd() throws InterruptedException {
    for (int tries = 0; SeparationService.progress().state == Progress.State.RUNNING; tries++) {
      assertTrue("it does not end", tries < 6000);
      Thread.sleep(10);
      Shadows.shadowOf(Looper.getMainLooper()).idle();
    }
  }

  @Test
  public void separatesInTheForeground() throws InterruptedException {
    ServiceController<SeparationService> service = started("Song.mp3", Phone.song());
    Notification shown = Shadows.shadowOf(service.get()).getLastForegroundNotification();
    assertEquals("Separating Song", shown.extras.getString(Notification.EXTRA_TITLE));
    assertEquals(
        ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC, service.get().getForegroundServiceType());
    assertEquals(Progress.State.RUNNING, SeparationService.progress().state);
    awaitEnd();
    assertEquals(Progress.State.DONE, SeparationService.progress().state);
    assertEquals(music.rows.size(), SeparationService.progress().stems.size());
    double seconds = (double) Phone.SAMPLES / Sink.RATE_HZ;
    assertEquals(seconds, SeparationService.progress().durationS, 1e-9);
    assertTrue(Shadows.shadowOf(service.get()).isForegroundStopped());
    assertTrue(Shadows.shadowOf(service.get()).isStoppedBySelf());
    NotificationManager manager = context.getSystemService(NotificationManager.class);
    assertEquals(0, Shadows.shadowOf(manager).size());
  }

  @Test
  public void isCancelledFromItsNotification() throws Exception {
    byte[] minutes = new byte[4 * 44100 * 120];
    ServiceController<SeparationService> service = started("Song.mp3", minutes);
    Notification shown = Shadows.shadowOf(service.get()).getLastForegroundNotification();
    assertEquals("Cancel", shown.actions[0].title);
    shown.actions[0].actionIntent.send();
    Shadows.shadowOf(Looper.getMainLooper()).idle();
    Intent cancel = next();
    assertNotNull(cancel);
    service.get().onStartCommand(cancel, 0, 2);
    awaitEnd();
    assertEquals(Progress.State.IDLE, SeparationService.progress().state);
    assertTrue(music.rows.isEmpty());
    assertTrue(Shadows.shadowOf(service.get()).isStoppedBySelf());
  }

  @Test
  public void cancellingNothingEndsTheService() {
    SeparationService.cancel(context);
    ServiceController<SeparationService> service =
        Robolectric.buildService(SeparationService.class, next()).create().startCommand(0, 1);
    assertTrue(Shadows.shadowOf(service.get()).isStoppedBySelf());
    assertFalse(Shadows.shadowOf(service.get()).isForegroundStopped());
  }
}
