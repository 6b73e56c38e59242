package stemforge.app;

import java.io.Closeable;
import java.io.IOException;

/** An audio file that is written block by block, stereo at 44.1 kHz. */
interface Sink extends Closeable {
  int RATE_HZ = 44100;
  int CHANNELS = 2;

  /** Appends interleaved samples; what exceeds full scale, 1, is clipped. */
  void write(float[] block) throws IOException;

  /** Completes the file. */
  void finish() throws IOException;

  /** Frees what it holds; without {@link #finish} the file is of no use. */
  @Override
  void close() throws IOException;
}
