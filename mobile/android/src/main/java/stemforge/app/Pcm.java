package stemforge.app;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Samples as bytes, little-endian. The encodings are those of android.media.AudioFormat. */
final class Pcm {
  static final int ENCODING_16 = 2;
  static final int ENCODING_8 = 3;
  static final int ENCODING_FLOAT = 4;
  static final int ENCODING_24 = 21;
  static final int ENCODING_32 = 22;

  private Pcm() {}

  /**
   * Stereo floats, full scale at 1.
   *
   * @param bytes from its position to its limit
   * @param encoding one of the above
   * @param channels 1, which is duplicated, or 2
   * @throws IllegalArgumentException any other encoding or number of channels
   */
  static float[] toStereo(ByteBuffer bytes, int encoding, int channels) {
    if (channels != 1 && channels != 2) {
      throw new IllegalArgumentException(channels + " channels");
    }
    ByteBuffer in = bytes.slice().order(ByteOrder.LITTLE_ENDIAN);
    int width = width(encoding);
    int count = in.remaining() / (width * channels);
    float[] out = new float[2 * count];
    for (int n = 0; n < out.length; n++) {
      int value = channels == 2 ? n : n / 2;
      out[n] = read(in, value * width, encoding);
    }
    return out;
  }

  /** Appends 16 bits a value: rounded half to even and clipped, as `stemforge separate` does. */
  static void put16(float[] values, int from, int to, ByteBuffer out) {
    for (int n = from; n < to; n++) {
      double scaled = Math.rint(values[n] * 32768.0);
      out.putShort((short) Math.max(-32768.0, Math.min(32767.0, scaled)));
    }
  }

  private static int width(int encoding) {
    switch (encoding) {
      case ENCODING_8:
        return 1;
      case ENCODING_16:
        return 2;
      case ENCODING_24:
        return 3;
      case ENCODING_32:
      case ENCODING_FLOAT:
        return 4;
      default:
        throw new IllegalArgumentException("encoding " + encoding);
    }
  }

  private static float read(ByteBuffer in, int at, int encoding) {
    switch (encoding) {
      case ENCODING_8:
        return ((in.get(at) & 0xff) - 128) / 128.0f;
      case ENCODING_16:
        return in.getShort(at) / 32768.0f;
      case ENCODING_24:
        int low = in.getShort(at) & 0xffff;
        return (in.get(at + 2) << 16 | low) / 8388608.0f;
      case ENCODING_32:
        return (float) (in.getInt(at) / 2147483648.0);
      default:
        return in.getFloat(at);
    }
  }
}
