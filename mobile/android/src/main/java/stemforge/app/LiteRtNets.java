package stemforge.app;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.tensorflowlite.BuiltinOpResolver;
import org.bytedeco.tensorflowlite.FlatBufferModel;
import org.bytedeco.tensorflowlite.Interpreter;
import org.bytedeco.tensorflowlite.InterpreterBuilder;
import org.bytedeco.tensorflowlite.SignatureRunner;
import org.bytedeco.tensorflowlite.TfLiteTensor;
import stemforge.StemSeparator;

/** The nets of a model, run by LiteRT (TensorFlow Lite) on the CPU, through XNNPACK. */
final class LiteRtNets implements StemSeparator.Nets, AutoCloseable {
  private static final String SIGNATURE = "estimate";
  private static final String INPUT = "mixture";

  static {
    // JavaCPP would refuse to allocate once the whole process holds four times the Java heap.
    System.setProperty("org.bytedeco.javacpp.maxphysicalbytes", "0");
  }

  private final List<Net> nets = new ArrayList<>();
  private final int stems;

  /**
   * @param model what the files are
   * @param files their contents: direct buffers, of mapped files for example; they must stay
   *     unchanged until {@link #close}
   * @param threads how many a net may use
   * @throws IOException a file is not a model of ours
   */
  LiteRtNets(Model model, List<ByteBuffer> files, int threads) throws IOException {
    stems = model.stems.size();
    try {
      for (int n = 0; n < files.size(); n++) {
        nets.add(new Net(model, model.files.get(n), files.get(n), threads));
      }
      int outputs = nets.stream().mapToInt(net -> net.outputs.size()).sum();
      if (outputs != stems) {
        throw new IOException(model.name + ": " + outputs + " outputs for " + stems + " stems");
      }
    } catch (IOException error) {
      close();
      throw error;
    }
  }

  @Override
  public float[][] estimate(float[] magnitudes) {
    float[][] estimates = new float[stems][magnitudes.length];
    int stem = 0;
    for (Net net : nets) {
      net.input.rewind();
      net.input.put(magnitudes);
      if (net.runner.Invoke() != 0) {
        throw new IllegalStateException("LiteRT could not run " + net.name);
      }
      for (FloatBuffer output : net.outputs) {
        output.rewind();
        output.get(estimates[stem++]);
      }
    }
    return estimates;
  }

  @Override
  public void close() {
    nets.forEach(Net::close);
    nets.clear();
  }

  /** One file with its buffers. The fields keep what native code refers to. */
  private static final class Net {
    final String name;
    final BytePointer file;
    final FlatBufferModel flatBuffer;
    final BuiltinOpResolver resolver = new BuiltinOpResolver();
    final Interpreter interpreter = new Interpreter((Pointer) null);
    final List<FloatBuffer> outputs = new ArrayList<>(); // in the order of the model's stems
    SignatureRunner runner;
    FloatBuffer input;

    Net(Model model, String name, ByteBuffer file, int threads) throws IOException {
      this.name = name;
      this.file = new BytePointer(file);
      flatBuffer = FlatBufferModel.BuildFromBuffer(this.file, file.remaining());
      boolean loaded = false;
      try {
        load(model, threads);
        loaded = true;
      } finally {
        if (!loaded) {
          close();
        }
      }
    }

    private void load(Model model, int threads) throws IOException {
      if (flatBuffer == null || flatBuffer.isNull()) {
        throw new IOException(name + " is no TensorFlow Lite file");
      }
      try (InterpreterBuilder builder = new InterpreterBuilder(flatBuffer, resolver)) {
        builder.SetNumThreads(threads);
        check(builder.apply(interpreter));
      }
      runner = interpreter.GetSignatureRunner(SIGNATURE);
      if (runner == null || runner.isNull()) {
        throw new IOException(name + " has no signature " + SIGNATURE);
      }
      check(runner.AllocateTensors());
      int values = model.frames * model.bins * 2;
      input = floats(runner.input_tensor(INPUT), values);
      List<String> names = outputNames();
      for (String stem : model.stems) {
        if (names.contains(stem)) {
          outputs.add(floats(runner.output_tensor(stem), values));
        }
      }
    }

    void close() {
      interpreter.close(); // before what it uses
      resolver.close();
      if (flatBuffer != null) {
        flatBuffer.close();
      }
    }

    private List<String> outputNames() {
      List<String> names = new ArrayList<>();
      for (int n = 0; n < runner.output_size(); n++) {
        names.add(runner.output_names().getString(n));
      }
      return names;
    }

    private void check(int status) throws IOException {
      if (status != 0) {
        throw new IOException("LiteRT could not load " + name);
      }
    }

    private FloatBuffer floats(TfLiteTensor tensor, int values) throws IOException {
      if (tensor == null || tensor.isNull() || tensor.bytes() != 4L * values) {
        throw new IOException(name + ": its tensors are not those of the model");
      }
      return new FloatPointer(tensor.data().data()).capacity(values).asBuffer();
    }
  }
}
