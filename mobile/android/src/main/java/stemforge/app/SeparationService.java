package stemforge.app;

import android.app.Notification;
import android.app.NotificationChannel;
import android.app.NotificationManager;
import android.app.PendingIntent;
import android.app.Service;
import android.content.Context;
import android.content.Intent;
import android.content.pm.ServiceInfo;
import android.net.Uri;
import android.os.Build;
import android.os.Handler;
import android.os.IBinder;
import android.os.Looper;
import android.os.PowerManager;

/**
 * Separates in the foreground, with a notification, while the person does something else.
 *
 * <p>One song at a time: a second one while the first runs is not begun.
 */
public final class SeparationService extends Service {
  private static final String CHANNEL = "separation";
  private static final int NOTIFICATION = 1;
  private static final String CANCEL = "stemforge.app.CANCEL";
  private static final String SONG = "song";
  private static final String MODEL = "model";
  private static final String FORMAT = "format";
  private static final long MOST_MS = 6 * 60 * 60 * 1000; // what Android 15 gives such a service

  // Of the main thread; service and screen live in one process.
  private static Progress progress = Progress.NOTHING;
  private static Runnable observer;

  private final Handler main = new Handler(Looper.getMainLooper());
  private SeparationJob job;
  private PowerManager.WakeLock awake;

  /** How far it is, or how the last song ended. Of the main thread. */
  static Progress progress() {
    return progress;
  }

  /** Whom to call after each change, on the main thread; null: nobody. */
  static void observe(Runnable changed) {
    observer = changed;
  }

  static void start(Context context, Uri uri, String song, Model model, StemFormat format) {
    Intent intent = new Intent(context, SeparationService.class);
    intent.setData(uri).addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION);
    intent.putExtra(SONG, song).putExtra(MODEL, model.name).putExtra(FORMAT, format.name());
    context.startForegroundService(intent);
  }

  static void cancel(Context context) {
    context.startService(cancelling(context));
  }

  private static Intent cancelling(Context context) {
    return new Intent(context, SeparationService.class).setAction(CANCEL);
  }

  /** Takes news of the separation. Of the main thread. */
  static void show(Progress now) {
    progress = now;
    if (observer != null) {
      observer.run();
    }
  }

  @Override
  public IBinder onBind(Intent intent) {
    return null;
  }

  @Override
  public int onStartCommand(Intent intent, int flags, int startId) {
    if (CANCEL.equals(intent.getAction())) {
      if (job != null) {
        job.cancel();
      } else {
        stopSelf(startId);
      }
    } else if (job == null) {
      begin(intent);
    }
    return START_NOT_STICKY; // after a kill the person begins again
  }

  /** Android 15 calls it after six hours. */
  @Override
  public void onTimeout(int startId, int type) {
    if (job != null) {
      job.cancel();
    }
    stopSelf();
  }

  @Override
  public void onDestroy() {
    if (job != null) {
      job.cancel();
    }
  }

  private void begin(Intent intent) {
    String song = intent.getStringExtra(SONG);
    Progress now = Progress.running(song, -1);
    enterForeground(now);
    show(now);
    Model model = Assets.model(this, intent.getStringExtra(MODEL));
    StemFormat format = StemFormat.valueOf(intent.getStringExtra(FORMAT));
    job =
        new SeparationJob(
            this, intent.getData(), song, model, format, news -> main.post(() -> take(news)));
    PowerManager power = getSystemService(PowerManager.class);
    awake = power.newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "stemforge:separation");
    awake.setReferenceCounted(false);
    awake.acquire(MOST_MS);
    new Thread(job::run, "separation").start();
  }

  private void enterForeground(Progress now) {
    NotificationChannel channel =
        new NotificationChannel(
            CHANNEL, getString(R.string.channel), NotificationManager.IMPORTANCE_LOW);
    getSystemService(NotificationManager.class).createNotificationChannel(channel);
    if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
      startForeground(
          NOTIFICATION, notification(now), ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC);
    } else {
      startForeground(NOTIFICATION, notification(now));
    }
  }

  private void take(Progress now) {
    if (now.state == Progress.State.RUNNING) {
      getSystemService(NotificationManager.class).notify(NOTIFICATION, notification(now));
    } else {
      job = null;
      awake.release();
      stopForeground(STOP_FOREGROUND_REMOVE);
      stopSelf();
    }
    show(now);
  }

  private Notification notification(Progress now) {
    int fixed = PendingIntent.FLAG_IMMUTABLE;
    PendingIntent open =
        PendingIntent.getActivity(this, 0, new Intent(this, MainActivity.class), fixed);
    PendingIntent cancel = PendingIntent.getService(this, 0, cancelling(this), fixed);
    Notification.Action stop =
        new Notification.Action.Builder(null, getString(R.string.cancel), cancel).build();
    return new Notification.Builder(this, CHANNEL)
        .setSmallIcon(R.drawable.notification)
        .setContentTitle(getString(R.string.separating, now.song))
        .setProgress(100, Math.max(0, now.percent), now.percent < 0)
        .setContentIntent(open)
        .setOngoing(true)
        .setOnlyAlertOnce(true)
        .addAction(stop)
        .build();
  }
}
