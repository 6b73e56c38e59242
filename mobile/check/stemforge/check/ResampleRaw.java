package stemforge.check;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Random;
import stemforge.Resampler;

/** Resamples a stereo file of raw float32, in blocks of random lengths. */
public final class ResampleRaw {
  private ResampleRaw() {}

  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 4) {
      System.err.println("usage: java stemforge.check.ResampleRaw FROM_HZ TO_HZ INPUT OUTPUT");
      System.exit(2);
    }
    Resampler resampler =
        new Resampler(Integer.parseInt(arguments[0]), Integer.parseInt(arguments[1]));
    float[] in = Raw.read(Paths.get(arguments[2]));
    Random random = new Random(1);
    try (OutputStream out = Files.newOutputStream(Paths.get(arguments[3]))) {
      for (int start = 0; start < in.length; ) {
        int end = Math.min(in.length, start + 2 * random.nextInt(5000));
        out.write(Raw.bytes(resampler.push(Arrays.copyOfRange(in, start, end))));
        start = end;
      }
      out.write(Raw.bytes(resampler.finish()));
    }
  }
}
