package stemforge.app;

import android.app.Notification;
import android.app.NotificationChannel;
import android.app.NotificationManager;
import android.app.PendingIntent;
import android.app.Service;
import android.content.Context;
import android.content.Intent;
import android.content.SharedPreferences;
import android.content.pm.ServiceInfo;
import android.net.Uri;
import android.os.Build;
import android.os.Handler;
import android.os.IBinder;
import android.os.Looper;
import android.os.PowerManager;
import org.json.JSONException;

/**
 * Separates in the foreground, with a notification, while the person does something else.
 *
 * <p>One song at a time: a second one while the first runs is not begun.
 */
public final class SeparationService extends Service {
  private static final String CHANNEL = "separation";
  private static final int RUNNING = 1; // of the notifications
  private static final int ENDED = 2;
  private static final String CANCEL = "stemforge.app.CANCEL";
  private static final String SONG = "song";
  private static final String MODEL = "model";
  private static final String FORMAT = "format";
  private static final String LAST = "last";
  private static final long MOST_MS = 6 * 60 * 60 * 1000; // what Android 15 gives such a service

  // Of the main thread; service and screen live in one process.
  private static Progress progress = Progress.NOTHING;
  private static SeparationJob job;
  private static Runnable observer;

  private final Handler main = new Handler(Looper.getMainLooper());
  private PowerManager.WakeLock awake;
  private boolean destroyed;

  /** How far it is, or how the last song ended, also of a process before. Of the main thread. */
  static Progress progress(Context context) {
    if (progress == Progress.NOTHING) {
      String last = preferences(context).getString(LAST, null);
      try {
        progress = last == null ? Progress.NOTHING : Progress.parse(last);
      } catch (JSONException error) {
        preferences(context).edit().remove(LAST).apply(); // of another version
      }
    }
    return progress;
  }

  private static SharedPreferences preferences(Context context) {
    return context.getSharedPreferences(CHANNEL, MODE_PRIVATE);
  }

  /** Whom to call after each change, on the main thread. */
  static void observe(Runnable changed) {
    observer = changed;
  }

  /** No longer, unless another one has come. */
  static void forget(Runnable changed) {
    if (observer == changed) {
      observer = null;
    }
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
    if (!CANCEL.equals(intent.getAction())) {
      String song = intent.getStringExtra(SONG);
      enterForeground(job == null ? Progress.running(song, -1) : progress); // each start has to
      if (job == null) {
        begin(intent, song);
      }
    } else if (job != null) {
      job.cancel();
      show(Progress.cancelling(job.song(), getString(R.string.cancelling)));
    } else {
      stopSelf(startId);
    }
    return START_NOT_STICKY; // after a kill the person begins again
  }

  /** Android 15 calls it after six hours. */
  @Override
  public void onTimeout(int startId, int type) {
    if (job != null) {
      job.cancel(getString(R.string.timed_out));
    }
    stopForeground(STOP_FOREGROUND_REMOVE);
    stopSelf();
  }

  @Override
  public void onDestroy() {
    destroyed = true;
    if (job != null) {
      job.cancel();
    }
  }

  private void begin(Intent intent, String song) {
    Model model = Assets.model(this, intent.getStringExtra(MODEL));
    StemFormat format = StemFormat.valueOf(intent.getStringExtra(FORMAT));
    preferences(this).edit().remove(LAST).apply();
    getSystemService(NotificationManager.class).cancel(ENDED);
    show(Progress.running(song, -1));
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
      startForeground(RUNNING, running(now), ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC);
    } else {
      startForeground(RUNNING, running(now));
    }
  }

  /** News of the job, which may outlive this service by a moment. */
  private void take(Progress now) {
    if (now.state != Progress.State.RUNNING) {
      job = null;
      awake.release();
      if (now.state == Progress.State.DONE) {
        preferences(this).edit().putString(LAST, now.format()).apply();
      }
      if (now.state != Progress.State.IDLE) {
        getSystemService(NotificationManager.class).notify(ENDED, ended(now));
      }
      stopForeground(STOP_FOREGROUND_REMOVE);
      stopSelf();
    } else if (!destroyed) {
      getSystemService(NotificationManager.class).notify(RUNNING, running(now));
    }
    show(now);
  }

  private Notification running(Progress now) {
    PendingIntent cancel =
        PendingIntent.getService(this, 0, cancelling(this), PendingIntent.FLAG_IMMUTABLE);
    return builder()
        .setContentTitle(getString(R.string.separating, now.song))
        .setProgress(100, Math.max(0, now.percent), now.percent < 0)
        .setOngoing(true)
        .addAction(
            new Notification.Action.Builder(null, getString(R.string.cancel), cancel).build())
        .build();
  }

  private Notification ended(Progress now) {
    boolean done = now.state == Progress.State.DONE;
    return builder()
        .setContentTitle(now.song)
        .setContentText(done ? getString(R.string.ready) : now.message)
        .setAutoCancel(true)
        .build();
  }

  private Notification.Builder builder() {
    Intent open = new Intent(this, MainActivity.class);
    return new Notification.Builder(this, CHANNEL)
        .setSmallIcon(R.drawable.notification)
        .setOnlyAlertOnce(true)
        .setContentIntent(PendingIntent.getActivity(this, 0, open, PendingIntent.FLAG_IMMUTABLE));
  }
}
