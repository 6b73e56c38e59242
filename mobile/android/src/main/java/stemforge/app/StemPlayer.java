package stemforge.app;

import android.content.Context;
import android.media.AudioAttributes;
import android.media.AudioFormat;
import android.media.AudioTrack;
import android.os.Handler;
import android.os.Looper;
import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.List;

/** Plays a song's stems together; each can be muted and soloed while it plays. */
final class StemPlayer implements Closeable {
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
  private double positionS;
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
      thread = new Thread(this::run, "player");
      thread.start();
    }
  }

  /** Stops and keeps the place; all is released when the thread has ended. */
  synchronized void pause() {
    thread = null;
    notifyAll();
  }

  synchronized void seek(double seconds) {
    positionS = seconds;
    soughtS = seconds;
  }

  @Override
  public void close() {
    pause();
  }

  private void run() {
    String message = null;
    Source[] sources = new Source[stems.size()];
    try {
      for (int n = 0; n < sources.length; n++) {
        sources[n] = new AudioDecoder(context, stems.get(n).uri);
      }
      play(sources);
    } catch (IOException error) {
      message = error.getMessage();
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
    AudioTrack track = null;
    float[][] held = new float[sources.length][0];
    seekAll(sources, positionS());
    try {
      while (wanted()) {
        double sought = takeSought();
        if (sought >= 0.0) {
          seekAll(sources, sought);
          held = new float[sources.length][0];
        }
        float[][] blocks = take(sources, held);
        if (blocks == null) {
          seek(0.0);
          takeSought();
          return;
        }
        if (track == null) {
          track = open(sources[0].rateHz());
        }
        float[] mixed = mixer.mix(blocks);
        write(track, mixed);
        moved(mixed.length / Sink.CHANNELS / (double) sources[0].rateHz());
      }
    } finally {
      if (track != null) {
        track.release();
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

  private static void seekAll(Source[] sources, double seconds) throws IOException {
    for (Source source : sources) {
      source.seek(seconds);
    }
  }

  private synchronized double takeSought() {
    double sought = soughtS;
    soughtS = -1.0;
    return sought;
  }

  private synchronized void moved(double seconds) {
    if (wanted() && soughtS < 0.0) {
      positionS += seconds;
      double now = positionS;
      main.post(() -> listener.moved(now));
    }
  }

  private static void write(AudioTrack track, float[] block) {
    ByteBuffer bytes =
        ByteBuffer.allocateDirect(block.length * Float.BYTES).order(ByteOrder.nativeOrder());
    bytes.asFloatBuffer().put(block);
    track.write(bytes, bytes.capacity(), AudioTrack.WRITE_BLOCKING);
  }

  private AudioTrack open(int rateHz) throws Failure {
    AudioFormat format =
        new AudioFormat.Builder()
            .setEncoding(AudioFormat.ENCODING_PCM_FLOAT)
            .setSampleRate(rateHz)
            .setChannelMask(AudioFormat.CHANNEL_OUT_STEREO)
            .build();
    AudioAttributes music =
        new AudioAttributes.Builder()
            .setUsage(AudioAttributes.USAGE_MEDIA)
            .setContentType(AudioAttributes.CONTENT_TYPE_MUSIC)
            .build();
    int least =
        AudioTrack.getMinBufferSize(
            rateHz, AudioFormat.CHANNEL_OUT_STEREO, AudioFormat.ENCODING_PCM_FLOAT);
    AudioTrack.Builder builder =
        new AudioTrack.Builder()
            .setAudioFormat(format)
            .setAudioAttributes(music)
            .setBufferSizeInBytes(Math.max(least, 2 * BLOCK * Sink.CHANNELS * Float.BYTES));
    try {
      AudioTrack track = builder.build();
      track.play();
      return track;
    } catch (UnsupportedOperationException | IllegalStateException error) {
      throw new Failure(context, R.string.no_sound);
    }
  }
}
