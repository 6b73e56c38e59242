package stemforge.app;

import java.io.Closeable;
import java.io.IOException;

/** A song that is read block by block. */
interface Source extends Closeable {
  /** Sampling rate in Hz; it may be known only after the first block. */
  int rateHz();

  /** The next block, interleaved stereo, full scale at 1; null at the end. */
  float[] next() throws IOException;

  /** Continues at that time, to the sample. */
  void seek(double seconds) throws IOException;

  @Override
  void close();
}
