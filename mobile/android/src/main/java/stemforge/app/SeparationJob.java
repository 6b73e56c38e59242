package stemforge.app;

import android.content.Context;
import android.net.Uri;
import android.os.Environment;
import android.os.ParcelFileDescriptor;
import android.os.StatFs;
import android.text.format.Formatter;
import android.util.Log;
import java.io.FileOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import stemforge.StemSeparator;
import stemforge.Stft;

/** Separates one song into files in Music/stemforge: all of its stems, or nothing. */
final class SeparationJob implements Separation.Listener {
  private static final String TAG = "stemforge";

  private final Context context;
  private final Uri uri;
  private final String song;
  private final Model model;
  private final StemFormat format;
  private final Consumer<Progress> told;
  private final List<MusicFile> files = new ArrayList<>();
  private final List<Sink> sinks = new ArrayList<>();
  private volatile Progress cancelled; // how it then ends
  private double durationS;
  private int percent = -1;

  /**
   * @param song what the stems' files begin with
   * @param told hears of each percent, and of the end; on the job's thread
   */
  SeparationJob(
      Context context,
      Uri uri,
      String song,
      Model model,
      StemFormat format,
      Consumer<Progress> told) {
    this.context = context;
    this.uri = uri;
    this.song = song;
    this.model = model;
    this.format = format;
    this.told = told;
  }

  /** The song that is separated. */
  String song() {
    return song;
  }

  /** Stops soon, and leaves nothing. */
  void cancel() {
    cancel(Progress.NOTHING);
  }

  /** Stops soon, leaves nothing, and says why. */
  void cancel(String message) {
    cancel(Progress.failed(song, message));
  }

  private synchronized void cancel(Progress end) {
    cancelled = cancelled == null ? end : cancelled; // the first reason
  }

  @Override
  public boolean cancelled() {
    return cancelled != null;
  }

  @Override
  public void progressed(double seconds) {
    int now = durationS > 0.0 ? (int) Math.min(99.0, 100.0 * seconds / durationS) : -1;
    if (now != percent && !cancelled()) {
      percent = now;
      told.accept(Progress.running(song, now));
    }
  }

  /** Does all of it; ends with a last word to the listener, whatever happens. */
  void run() {
    Progress end;
    try {
      MusicFile.discardLeftovers(context);
      end = separate();
    } catch (Separation.Cancelled stopped) {
      discard();
      end = cancelled;
    } catch (IOException | RuntimeException | LinkageError | OutOfMemoryError error) {
      // Decoders, encoders and storage of phones fail in more ways than their interfaces say.
      Log.e(TAG, song, error);
      discard();
      end = Progress.failed(song, explain(error));
    }
    told.accept(end);
  }

  private String explain(Throwable error) {
    if (error instanceof Failure) {
      return error.getMessage();
    }
    String text = String.valueOf(error.getMessage());
    if (text.contains("ENOSPC") || text.contains("No space left")) {
      return context.getString(R.string.disk_full);
    }
    return context.getString(R.string.failed, error.getClass().getSimpleName() + ": " + text);
  }

  private Progress separate() throws IOException, Separation.Cancelled {
    long samples;
    try (AudioDecoder source = new AudioDecoder(context, uri, R.string.cannot_open);
        LiteRtNets nets = Assets.load(context, model)) {
      durationS = source.durationS();
      checkSpace();
      for (String stem : model.stems) {
        MusicFile file = MusicFile.create(context, song + " - " + stem, format);
        files.add(file);
        sinks.add(open(file));
      }
      StemSeparator separator =
          new StemSeparator(
              nets, sinks.size(), model.frames, model.bins, new Stft(model.length, model.hop));
      samples = Separation.run(source, separator, sinks, this);
      if (samples == 0) {
        throw new Failure(context, R.string.empty);
      }
      for (Sink sink : sinks) {
        sink.finish();
      }
      closeSinks();
    } finally {
      abandonSinks();
    }
    if (cancelled()) {
      throw new Separation.Cancelled();
    }
    List<Progress.Stem> stems = new ArrayList<>();
    for (int n = 0; n < files.size(); n++) {
      stems.add(new Progress.Stem(model.stems.get(n), files.get(n).publish()));
    }
    return Progress.done(song, stems, (double) samples / Sink.RATE_HZ);
  }

  private Sink open(MusicFile file) throws IOException {
    ParcelFileDescriptor opened = file.open();
    if (format == StemFormat.M4A) {
      return new M4aSink(context, opened);
    }
    FileOutputStream out = new ParcelFileDescriptor.AutoCloseOutputStream(opened);
    try {
      return new WavSink(out.getChannel());
    } catch (IOException error) {
      out.close();
      throw error;
    }
  }

  @SuppressWarnings("deprecation") // the folder's volume is the same for MediaStore
  private void checkSpace() throws Failure {
    long needed = (long) (durationS * format.bytesPerSecond * model.stems.size());
    StatFs volume = new StatFs(Environment.getExternalStorageDirectory().getPath());
    long free = volume.getAvailableBytes();
    if (free < needed) {
      throw new Failure(
          context,
          format == StemFormat.WAV ? R.string.no_space_for_wav : R.string.no_space,
          Formatter.formatFileSize(context, needed),
          Formatter.formatFileSize(context, free));
    }
  }

  private void closeSinks() throws IOException {
    while (!sinks.isEmpty()) {
      sinks.remove(sinks.size() - 1).close();
    }
  }

  /** After a failure, which is the one to report. */
  private void abandonSinks() {
    while (!sinks.isEmpty()) {
      try {
        closeSinks();
      } catch (IOException error) {
        Log.w(TAG, song, error);
      }
    }
  }

  private void discard() {
    for (MusicFile file : files) {
      try {
        file.discard();
      } catch (RuntimeException error) {
        Log.w(TAG, song, error); // the next song's start deletes it
      }
    }
  }
}
