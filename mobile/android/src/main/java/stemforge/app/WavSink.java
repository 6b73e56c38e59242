package stemforge.app;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;

/** A WAV file of 16 bits. */
final class WavSink implements Sink {
  static final int BYTES_PER_SAMPLE = 2 * CHANNELS;
  private static final int HEADER = 44;
  // The header has 32 bits for the sizes.
  private static final long MOST = 0xffffffffL - HEADER;

  private final FileChannel channel;
  private final ByteBuffer buffer = ByteBuffer.allocate(1 << 16).order(ByteOrder.LITTLE_ENDIAN);
  private long written;

  WavSink(FileChannel channel) throws IOException {
    this.channel = channel;
    writeHeader();
  }

  @Override
  public void write(float[] block) throws IOException {
    if (written + 2L * block.length > MOST) {
      throw new IOException("a WAV file holds at most 4 GB (6.7 hours)");
    }
    for (int from = 0; from < block.length; ) {
      int to = Math.min(block.length, from + buffer.remaining() / 2);
      Pcm.put16(block, from, to, buffer);
      drain();
      from = to;
    }
    written += 2L * block.length;
  }

  @Override
  public void finish() throws IOException {
    channel.position(0);
    writeHeader();
    channel.force(true);
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }

  /** RIFF, "fmt " for PCM and "data", by Microsoft's and IBM's definition of 1991. */
  private void writeHeader() throws IOException {
    put("RIFF").putInt((int) (HEADER - 8 + written));
    put("WAVE");
    put("fmt ").putInt(16).putShort((short) 1).putShort((short) CHANNELS).putInt(RATE_HZ);
    buffer.putInt(RATE_HZ * BYTES_PER_SAMPLE).putShort((short) BYTES_PER_SAMPLE);
    buffer.putShort((short) 16);
    put("data").putInt((int) written);
    drain();
  }

  private ByteBuffer put(String name) {
    return buffer.put(name.getBytes(StandardCharsets.US_ASCII));
  }

  private void drain() throws IOException {
    buffer.flip();
    while (buffer.hasRemaining()) {
      channel.write(buffer);
    }
    buffer.clear();
  }
}
