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
import org.robolectric.shadows.ShadowPowerManager;

/** The separation in the foreground, from its start to its end. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 35, shadows = {Phone.Extractor.class, Phone.Codec.class})
public final class ServiceTest {
  private static final byte[] MINUTES = new byte[4 * 44100 * 120];

  private final Context context = RuntimeEnvironment.getApplication();
  private Phone.Music music;

  @Before
  public void install() {
    Phone.install();
    music = Phone.installMusic();
    SeparationService.show(Progress.NOTHING);
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

  private Progress progress() {
    return SeparationService.progress(context);
  }

  private void awaitEnd() throws InterruptedException {
    for (int tries = 0; progress().state == Progress.State.RUNNING; tries++) {
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
    assertEquals(Progress.State.RUNNING, progress().state);
    awaitEnd();
    assertEquals(Progress.State.DONE, progress().state);
    assertEquals(music.rows.size(), progress().stems.size());
    double seconds = (double) Phone.SAMPLES / Sink.RATE_HZ;
    assertEquals(seconds, progress().durationS, 1e-9);
    assertTrue(Shadows.shadowOf(service.get()).isForegroundStopped());
    assertTrue(Shadows.shadowOf(service.get()).isStoppedBySelf());
    assertEquals("The stems are ready", onlyNotification(Notification.EXTRA_TEXT));
    assertFalse(ShadowPowerManager.getLatestWakeLock().isHeld());
  }

  private String onlyNotification(String extra) {
    NotificationManager manager = context.getSystemService(NotificationManager.class);
    assertEquals(1, Shadows.shadowOf(manager).size());
    return Shadows.shadowOf(manager).getAllNotifications().get(0).extras.getString(extra);
  }

  @Test
  public void theNextProcessStillHasTheStems() throws InterruptedException {
    started("Song.mp3", Phone.song());
    awaitEnd();
    Progress before = progress();
    SeparationService.show(Progress.NOTHING); // as a new process begins
    Progress after = progress();
    assertEquals(Progress.State.DONE, after.state);
    assertEquals("Song", after.song);
    assertEquals(before.durationS, after.durationS, 0.0);
    for (int n = 0; n < before.stems.size(); n++) {
      assertEquals(before.stems.get(n).name, after.stems.get(n).name);
      assertEquals(before.stems.get(n).uri, after.stems.get(n).uri);
    }
  }

  @Test
  public void aSecondSongIsNotBegun() throws InterruptedException {
    ServiceController<SeparationService> service = started("Song.mp3", MINUTES);
    assertTrue(ShadowPowerManager.getLatestWakeLock().isHeld());
    Uri other = Phone.document("Other.mp3", Phone.MIME, Phone.song());
    SeparationService.start(context, other, "Other", Assets.models(context).get(0), StemFormat.WAV);
    service.get().onStartCommand(next(), 0, 2);
    assertEquals("Song", progress().song);
    SeparationService.cancel(context);
    service.get().onStartCommand(next(), 0, 3);
    awaitEnd();
    assertEquals(Progress.State.IDLE, progress().state);
  }

  @Test
  public void saysThatAndroidEndedIt() throws InterruptedException {
    ServiceController<SeparationService> service = started("Song.mp3", MINUTES);
    service.get().onTimeout(1, ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC);
    assertTrue(Shadows.shadowOf(service.get()).isStoppedBySelf()); // or Android ends the process
    service.destroy();
    awaitEnd();
    assertEquals(Progress.State.FAILED, progress().state);
    assertTrue(progress().message.contains("after six hours"));
    assertEquals(progress().message, onlyNotification(Notification.EXTRA_TEXT));
    assertTrue(music.rows.isEmpty());
  }

  @Test
  public void isCancelledFromItsNotification() throws Exception {
    ServiceController<SeparationService> service = started("Song.mp3", MINUTES);
    Notification shown = Shadows.shadowOf(service.get()).getLastForegroundNotification();
    assertEquals("Cancel", shown.actions[0].title);
    shown.actions[0].actionIntent.send();
    Shadows.shadowOf(Looper.getMainLooper()).idle();
    Intent cancel = next();
    assertNotNull(cancel);
    service.get().onStartCommand(cancel, 0, 2);
    assertEquals("Cancelling", progress().message);
    awaitEnd();
    assertEquals(Progress.State.IDLE, progress().state);
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
