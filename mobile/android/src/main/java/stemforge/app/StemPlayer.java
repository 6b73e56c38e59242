package stemforge.app;

import android.content.Context;
import android.media.AudioAttributes;
import android.media.AudioFormat;
import android.media.AudioTrack;
import android.os.Handler;
import android.os.Looper;
import android.util.Log;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.List;

/** Plays a song's stems together; each can be muted and soloed while it plays. */
final class StemPlayer {
  /** Is told on the main thread. */
  interface Listener {
    void moved(double seconds);

    void stopped();

    void failed(String message);
  }

  private static final int BLOCK = 2048; // samples

  private final Context context;
  private final List<Progress.Stem> stems;
  private final double durationS;
  private final Listener listener;
  private final Handler main = new Handler(Looper.getMainLooper());
  private final Mixer mixer;
  // Of both threads; guarded by this.
  private Thread thread;
  private double positionS; // of what is heard
  private double soughtS = -1.0;

  StemPlayer(Context context, Progress done, Listener listener) {
    this.context = context;
    stems = done.stems;
    durationS = done.durationS;
    this.listener = listener;
    mixer = new Mixer(stems.size());
  }

  Mixer mixer() {
    return mixer;
  }

  synchronized boolean playing() {
    return thread != null;
  }

  double durationS() {
    return durationS;
  }

  synchronized double positionS() {
    return positionS;
  }

  /** Starts, or continues where it was paused. */
  synchronized void play() {
    if (thread == null) {
      soughtS = positionS;
      thread = new Thread(this::run, "player");
      thread.start();
    }
  }

  /** Stops and keeps the place; all is released when the thread has ended. */
  synchronized void pause() {
    thread = null;
  }

  synchronized void seek(double seconds) {
    positionS = seconds;
    soughtS = seconds;
  }

  private void run() {
    String message = null;
    Source[] sources = new Source[stems.size()];
    try {
      for (int n = 0; n < sources.length; n++) {
        sources[n] = new AudioDecoder(context, stems.get(n).uri, R.string.stem_gone);
      }
      play(sources);
    } catch (IOException error) {
      message = error.getMessage();
    } catch (RuntimeException error) {
      Log.e("stemforge", "player", error);
      message = context.getString(R.string.no_sound);
    } finally {
      for (Source source : sources) {
        if (source != null) {
          source.close();
        }
      }
    }
    end(message);
  }

  private synchronized boolean wanted() {
    return thread == Thread.currentThread();
  }

  private synchronized void end(String message) {
    if (!wanted()) {
      return; // paused
    }
    thread = null;
    main.post(message == null ? listener::stopped : () -> listener.failed(message));
  }

  private void play(Source[] sources) throws IOException {
    Output output = null;
    float[][] held = new float[sources.length][0];
    try {
      while (wanted()) {
        double sought = takeSought();
        if (sought >= 0.0) {
          held = new float[sources.length][0];
          for (Source source : sources) {
            source.seek(sought);
          }
          if (output != null) {
            output.restart(sought);
          }
        }
        float[][] blocks = take(sources, held);
        if (blocks == null) {
          if (output != null) {
            output.playOut();
          }
          seek(0.0);
          return;
        }
        if (output == null) {
          output = new Output(sources[0].rateHz(), Math.max(0.0, sought));
        }
        output.write(mixer.mix(blocks));
        moved(output.heardS());
      }
    } finally {
      if (output != null) {
        output.track.release();
      }
    }
  }

  /** A block of each stem from the decoders' blocks of any length; null at the end. */
  private static float[][] take(Source[] sources, float[][] held) throws IOException {
    float[][] blocks = new float[sources.length][];
    int length = BLOCK * Sink.CHANNELS;
    for (int n = 0; n < sources.length; n++) {
      while (held[n].length < length) {
        float[] more = sources[n].next();
        if (more == null) {
          break;
        }
        int before = held[n].length;
        held[n] = Arrays.copyOf(held[n], before + more.length);
        System.arraycopy(more, 0, held[n], before, more.length);
      }
    }
    for (float[] stem : held) {
      length = Math.min(length, stem.length);
    }
    for (int n = 0; n < sources.length; n++) {
      blocks[n] = Arrays.copyOf(held[n], length);
      held[n] = Arrays.copyOfRange(held[n], length, held[n].length);
    }
    return length == 0 ? null : blocks;
  }

  private synchronized double takeSought() {
    double sought = soughtS;
    soughtS = -1.0;
    return sought;
  }

  private synchronized void moved(double seconds) {
    if (wanted() && soughtS < 0.0) {
      double now = Math.min(durationS, seconds);
      positionS = now;
      main.post(() -> listener.moved(now));
    }
  }

  /** The phone's sound. */
  private final class Output {
    final AudioTrack track;
    private final int rateHz;
    private double startS; // of the song, where the track's first sample is
    private long written; // samples since then

    Output(int rateHz, double startS) throws Failure {
      this.rateHz = rateHz;
      this.startS = startS;
      int mask = AudioFormat.CHANNEL_OUT_STEREO;
      int encoding = AudioFormat.ENCODING_PCM_FLOAT;
      AudioFormat format =
          new AudioFormat.Builder()
              .setEncoding(encoding)
              .setSampleRate(rateHz)
              .setChannelMask(mask)
              .build();
      AudioAttributes music =
          new AudioAttributes.Builder()
              .setUsage(AudioAttributes.USAGE_MEDIA)
              .setContentType(AudioAttributes.CONTENT_TYPE_MUSIC)
              .build();
      int least = AudioTrack.getMinBufferSize(rateHz, mask, encoding);
      AudioTrack.Builder builder =
          new AudioTrack.Builder()
              .setAudioFormat(format)
              .setAudioAttributes(music)
              .setBufferSizeInBytes(Math.max(least, 2 * BLOCK * Sink.CHANNELS * Float.BYTES));
      try {
        track = builder.build();
        track.play();
      } catch (UnsupportedOperationException | IllegalStateException error) {
        throw new Failure(context, R.string.no_sound);
      }
    }

    void write(float[] block) throws Failure {
      ByteBuffer bytes =
          ByteBuffer.allocateDirect(block.length * Float.BYTES).order(ByteOrder.nativeOrder());
      bytes.asFloatBuffer().put(block);
      if (track.write(bytes, bytes.capacity(), AudioTrack.WRITE_BLOCKING) < 0) {
        throw new Failure(context, R.string.no_sound); // its device is gone
      }
      written += block.length / Sink.CHANNELS;
    }

    /** The place in the song that is heard now. */
    double heardS() {
      return startS + (double) Math.min(written, head()) / rateHz;
    }

    private long head() {
      return track.getPlaybackHeadPosition() & 0xffffffffL;
    }

    /** Drops what is not heard yet. */
    void restart(double seconds) {
      track.pause();
      track.flush();
      track.play();
      startS = seconds;
      written = 0;
    }

    /** Waits until all of it is heard, or the player is paused. */
    void playOut() {
      long leftMs = 1000 * (written - Math.min(written, head())) / rateHz;
      track.stop(); // which plays the rest
      long end = System.nanoTime() + 1_000_000 * leftMs;
      while (wanted() && System.nanoTime() < end) {
        try {
          Thread.sleep(10);
        } catch (InterruptedException nobody) {
          Thread.currentThread().interrupt();
          return;
        }
      }
    }
  }
}
