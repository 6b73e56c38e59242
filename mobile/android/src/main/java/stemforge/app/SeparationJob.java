package stemforge.app;

import android.content.Context;
import android.net.Uri;
import android.os.Environment;
import android.os.ParcelFileDescriptor;
import android.os.StatFs;
import android.text.format.Formatter;
import java.io.FileOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import stemforge.StemSeparator;
import stemforge.Stft;

/** Separates one song into files in Music/stemforge: all of its stems, or nothing. */
final class SeparationJob implements Separation.Listener {
  private final Context context;
  private final Uri uri;
  private final String song;
  private final Model model;
  private final StemFormat format;
  private final Consumer<Progress> told;
  private final List<MusicFile> files = new ArrayList<>();
  private final List<Sink> sinks = new ArrayList<>();
  private volatile boolean cancelled;
  private double durationS;
  private int percent = -1;

  /**
   * @param song what the stems' files begin with
   * @param told hears of each percent, and of the end
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

  void cancel() {
    cancelled = true;
  }

  @Override
  public boolean cancelled() {
    return cancelled;
  }

  @Override
  public void progressed(double seconds) {
    int now = durationS > 0.0 ? (int) Math.min(99.0, 100.0 * seconds / durationS) : -1;
    if (now != percent) {
      percent = now;
      told.accept(Progress.running(song, now));
    }
  }

  /** Does all of it; ends with a last word to the listener. */
  void run() {
    Progress end = Progress.NOTHING;
    try {
      MusicFile.discardLeftovers(context);
      end = separate();
    } catch (Separation.Cancelled ignored) {
      discard();
    } catch (Failure failure) {
      discard();
      end = Progress.failed(song, failure.getMessage());
    } catch (IOException | SecurityException error) {
      discard();
      end = Progress.failed(song, context.getString(R.string.failed, error.getMessage()));
    }
    told.accept(end);
  }

  private Progress separate() throws IOException, Separation.Cancelled {
    long samples;
    try (AudioDecoder source = new AudioDecoder(context, uri);
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
    } finally {
      closeSinks();
    }
    List<Progress.Stem> stems = new ArrayList<>();
    for (int n = 0; n < files.size(); n++) {
      stems.add(new Progress.Stem(model.stems.get(n), files.get(n).publish()));
    }
    return Progress.done(song, stems, (double) samples / Sink.RATE_HZ);
  }

  private Sink open(MusicFile file) throws IOException {
    ParcelFileDescriptor opened = file.open();
    if (format == StemFormat.WAV) {
      FileOutputStream out = new ParcelFileDescriptor.AutoCloseOutputStream(opened);
      return new WavSink(out.getChannel());
    }
    return new M4aSink(context, opened);
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
    IOException first = null;
    for (Sink sink : sinks) {
      try {
        sink.close();
      } catch (IOException error) {
        first = first == null ? error : first;
      }
    }
    if (first != null) {
      throw first;
    }
  }

  private void discard() {
    for (MusicFile file : files) {
      file.discard();
    }
  }
}
