package stemforge.app;

import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import org.json.JSONException;
import stemforge.StemSeparator;
import stemforge.Stft;
import stemforge.check.Raw;

/** The app's engine on the JVM: a stereo file of raw float32 in, one a stem out. */
public final class SeparateRaw {
  private static final int BLOCK = 8 * 4608; // bytes, about as a decoder gives them

  private SeparateRaw() {}

  public static void main(String[] arguments)
      throws IOException, JSONException, Separation.Cancelled {
    if (arguments.length != 5) {
      System.err.println("usage: java stemforge.app.SeparateRaw ASSETS SKIPPED RATE_HZ INPUT OUTPUT");
      System.exit(2);
    }
    Path assets = Paths.get(arguments[0]);
    byte[] list = Files.readAllBytes(assets.resolve("models.json"));
    Model model = Model.readAll(new String(list, StandardCharsets.UTF_8)).get(0);
    int skipped = Integer.parseInt(arguments[1]); // bytes before each model
    List<ByteBuffer> files = new ArrayList<>();
    for (String name : model.files) {
      try (FileChannel file = FileChannel.open(assets.resolve(name))) {
        files.add(file.map(FileChannel.MapMode.READ_ONLY, skipped, file.size() - skipped));
      }
    }
    List<RawSink> sinks = new ArrayList<>();
    for (String stem : model.stems) {
      sinks.add(new RawSink(Paths.get(arguments[4]).resolve(stem + ".f32")));
    }
    RawSource source = new RawSource(Paths.get(arguments[3]), Integer.parseInt(arguments[2]));
    try (LiteRtNets nets = new LiteRtNets(model, files, 2)) {
      StemSeparator separator =
          new StemSeparator(
              nets,
              model.stems.size(),
              model.frames,
              model.bins,
              new Stft(model.length, model.hop));
      Separation.run(source, separator, sinks, new Patient());
    }
    for (RawSink sink : sinks) {
      sink.close();
    }
  }

  private static final class Patient implements Separation.Listener {
    @Override
    public void progressed(double seconds) {}

    @Override
    public boolean cancelled() {
      return false;
    }
  }

  private static final class RawSource implements Source {
    private final FileChannel file;
    private final int rateHz;
    private final ByteBuffer block = ByteBuffer.allocate(BLOCK).order(ByteOrder.LITTLE_ENDIAN);

    RawSource(Path path, int rateHz) throws IOException {
      file = FileChannel.open(path);
      this.rateHz = rateHz;
    }

    @Override
    public int rateHz() {
      return rateHz;
    }

    @Override
    public float[] next() throws IOException {
      block.clear();
      if (file.read(block) < 0) { // a file fills the block, but for its end
        return null;
      }
      block.flip();
      float[] out = new float[block.remaining() / Float.BYTES];
      block.asFloatBuffer().get(out);
      return out;
    }

    @Override
    public void seek(double seconds) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void close() {}
  }

  private static final class RawSink implements Sink {
    private final OutputStream out;

    RawSink(Path path) throws IOException {
      out = new BufferedOutputStream(Files.newOutputStream(path));
    }

    @Override
    public void write(float[] block) throws IOException {
      out.write(Raw.bytes(block));
    }

    @Override
    public void finish() {}

    @Override
    public void close() throws IOException {
      out.close();
    }
  }
}
