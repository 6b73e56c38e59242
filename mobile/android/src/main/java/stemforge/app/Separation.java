package stemforge.app;

import java.io.IOException;
import java.util.List;
import stemforge.Resampler;
import stemforge.StemSeparator;

/** From a song to its stems, in memory that does not grow with it. */
final class Separation {
  /** Is told how far it is, and says whether to stop. */
  interface Listener {
    /**
     * @param seconds of the song that have been read
     */
    void progressed(double seconds);

    boolean cancelled();
  }

  /** The listener wanted it to stop. */
  static final class Cancelled extends Exception {
    private static final long serialVersionUID = 1L;
  }

  private Separation() {}

  /**
   * Reads the song to its end and writes all of its stems, at 44.1 kHz.
   *
   * @param source the song
   * @param separator a new one
   * @param sinks one a stem; they are not finished
   * @return samples of each stem
   * @throws IOException of the source or of a sink
   * @throws Cancelled before the next block
   */
  static long run(
      Source source, StemSeparator separator, List<? extends Sink> sinks, Listener listener)
      throws IOException, Cancelled {
    Resampler resampler = null;
    long samples = 0;
    long written = 0;
    for (float[] block = source.next(); block != null; block = source.next()) {
      if (listener.cancelled()) {
        throw new Cancelled();
      }
      if (resampler == null) {
        resampler = new Resampler(source.rateHz(), Sink.RATE_HZ);
      }
      samples += block.length / Sink.CHANNELS;
      written += write(separator.push(resampler.push(block)), sinks);
      listener.progressed((double) samples / source.rateHz());
    }
    if (listener.cancelled()) {
      throw new Cancelled();
    }
    if (resampler != null) {
      written += write(separator.push(resampler.finish()), sinks);
      written += write(separator.finish(), sinks);
    }
    return written;
  }

  private static long write(float[][] stems, List<? extends Sink> sinks) throws IOException {
    for (int stem = 0; stem < stems.length; stem++) {
      sinks.get(stem).write(stems[stem]);
    }
    return stems[0].length / Sink.CHANNELS;
  }
}
