package stemforge.app;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.junit.Test;

/** Values worked by hand. */
public final class PcmTest {
  private static ByteBuffer bytes(int... values) {
    ByteBuffer out = ByteBuffer.allocate(values.length);
    for (int value : values) {
      out.put((byte) value);
    }
    out.flip();
    return out;
  }

  private static void assertStereo(float[] expected, ByteBuffer bytes, int encoding, int channels) {
    assertArrayEquals(expected, Pcm.toStereo(bytes, encoding, channels), 0.0f);
  }

  @Test
  public void readsEachEncoding() {
    float[] expected = {-1.0f, 0.5f};
    assertStereo(expected, bytes(0x00, 0x80, 0x00, 0x40), Pcm.ENCODING_16, 2);
    assertStereo(expected, bytes(0x00, 0xc0), Pcm.ENCODING_8, 2);
    assertStereo(expected, bytes(0, 0, 0x80, 0, 0, 0x40), Pcm.ENCODING_24, 2);
    assertStereo(expected, bytes(0, 0, 0, 0x80, 0, 0, 0, 0x40), Pcm.ENCODING_32, 2);
    assertStereo(expected, bytes(0, 0, 0x80, 0xbf, 0, 0, 0, 0x3f), Pcm.ENCODING_FLOAT, 2);
    // 24 bits whose middle byte has its highest bit set: -2^23 + 0x8001.
    float odd = (-8388608 + 0x8001) / 8388608.0f;
    assertStereo(new float[] {odd, odd}, bytes(0x01, 0x80, 0x80), Pcm.ENCODING_24, 1);
  }

  @Test
  public void duplicatesMono() {
    assertStereo(new float[] {0.5f, 0.5f, -1.0f, -1.0f}, bytes(0, 0x40, 0, 0x80), 2, 1);
  }

  @Test
  public void readsFromPositionToLimit() {
    ByteBuffer all = bytes(9, 9, 0, 0x40, 0, 0x40, 9, 9);
    all.position(2).limit(6);
    assertStereo(new float[] {0.5f, 0.5f}, all, Pcm.ENCODING_16, 2);
  }

  @Test
  public void refusesWhatItDoesNotKnow() {
    ByteBuffer some = bytes(0, 0, 0, 0);
    assertThrows(IllegalArgumentException.class, () -> Pcm.toStereo(some, 99, 2));
    assertThrows(IllegalArgumentException.class, () -> Pcm.toStereo(some, Pcm.ENCODING_16, 6));
  }

  @Test
  public void roundsAndClips() {
    float[] values = {1.0f, -1.5f, 0.5f / 32768, 1.5f / 32768, -0.5f / 32768};
    ByteBuffer out = ByteBuffer.allocate(10).order(ByteOrder.LITTLE_ENDIAN);
    Pcm.put16(values, 0, 5, out);
    out.flip();
    for (int expected : new int[] {32767, -32768, 0, 2, 0}) {
      assertEquals(expected, out.getShort());
    }
  }
}
