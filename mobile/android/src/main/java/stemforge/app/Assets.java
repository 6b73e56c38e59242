package stemforge.app;

import android.content.Context;
import android.content.res.AssetFileDescriptor;
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.util.ArrayList;
import java.util.List;
import org.json.JSONException;

/** The models that the app was built with. */
final class Assets {
  private static final String LIST = "models.json";
  private static final int MOST_THREADS = 4; // a phone's fast cores

  private Assets() {}

  /** The models, in the order in which they were named to the build. */
  static List<Model> models(Context context) {
    try (InputStream in = context.getAssets().open(LIST)) {
      ByteArrayOutputStream text = new ByteArrayOutputStream();
      byte[] some = new byte[4096];
      for (int count = in.read(some); count >= 0; count = in.read(some)) {
        text.write(some, 0, count);
      }
      return Model.readAll(text.toString("UTF-8"));
    } catch (IOException | JSONException error) {
      throw new IllegalStateException(LIST + " is not what mobile/android/assets.py writes", error);
    }
  }

  /** The model of that name. */
  static Model model(Context context, String name) {
    for (Model model : models(context)) {
      if (model.name.equals(name)) {
        return model;
      }
    }
    throw new IllegalArgumentException(name);
  }

  /** Loads a model; its files are mapped where they lie in the app, and not copied. */
  static LiteRtNets load(Context context, Model model) throws IOException {
    List<ByteBuffer> files = new ArrayList<>();
    for (String name : model.files) {
      // Files are stored in the package uncompressed, or openFd would throw.
      try (AssetFileDescriptor file = context.getAssets().openFd(name);
          FileInputStream in = new FileInputStream(file.getFileDescriptor())) {
        files.add(
            in.getChannel()
                .map(FileChannel.MapMode.READ_ONLY, file.getStartOffset(), file.getLength()));
      }
    }
    return new LiteRtNets(
        model, files, Math.min(MOST_THREADS, Runtime.getRuntime().availableProcessors()));
  }
}
