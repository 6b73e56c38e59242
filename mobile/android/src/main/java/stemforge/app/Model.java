package stemforge.app;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The nets of all stems that one separation needs, as mobile/android/assets.py lists them. */
final class Model {
  /** What it is called for users, such as spleeter-2stems. */
  final String name;
  /** The stems in the order of their files' outputs. */
  final List<String> stems;
  /** Names of the assets: a .tflite file a stem, or one file of several. */
  final List<String> files;
  /** Frames that the nets take at once, T. */
  final int frames;
  /** Lowest bins that they take, F. */
  final int bins;
  /** Window and FFT length in samples. */
  final int length;
  /** Distance of frames in samples. */
  final int hop;

  private Model(JSONObject json) throws JSONException {
    name = json.getString("name");
    stems = strings(json.getJSONArray("stems"));
    files = strings(json.getJSONArray("files"));
    frames = json.getInt("frames");
    bins = json.getInt("bins");
    length = json.getInt("frame_length_samples");
    hop = json.getInt("frame_step_samples");
  }

  /** The models of models.json. */
  static List<Model> readAll(String json) throws JSONException {
    List<Model> models = new ArrayList<>();
    JSONArray listed = new JSONArray(json);
    for (int n = 0; n < listed.length(); n++) {
      models.add(new Model(listed.getJSONObject(n)));
    }
    return models;
  }

  private static List<String> strings(JSONArray json) throws JSONException {
    List<String> out = new ArrayList<>();
    for (int n = 0; n < json.length(); n++) {
      out.add(json.getString(n));
    }
    return Collections.unmodifiableList(out);
  }
}
