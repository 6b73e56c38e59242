package stemforge.app;

import android.net.Uri;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** How far a separation is: what the service tells the screen. */
final class Progress {
  enum State {
    IDLE,
    RUNNING,
    DONE,
    FAILED
  }

  static final Progress NOTHING =
      new Progress(State.IDLE, "", 0, "", Collections.emptyList(), 0.0);

  final State state;
  /** The song's name. */
  final String song;
  /** Of the work, 0 to 100; -1 where it cannot be told. */
  final int percent;
  /** What went wrong, for {@link State#FAILED}; that it is being cancelled. */
  final String message;
  /** The stems' files, for {@link State#DONE}. */
  final List<Stem> stems;
  /** Their length in seconds. */
  final double durationS;

  /** A stem's file. */
  static final class Stem {
    final String name;
    final Uri uri;

    Stem(String name, Uri uri) {
      this.name = name;
      this.uri = uri;
    }
  }

  private Progress(
      State state,
      String song,
      int percent,
      String message,
      List<Stem> stems,
      double durationS) {
    this.state = state;
    this.song = song;
    this.percent = percent;
    this.message = message;
    this.stems = stems;
    this.durationS = durationS;
  }

  static Progress running(String song, int percent) {
    return new Progress(State.RUNNING, song, percent, "", Collections.emptyList(), 0.0);
  }

  /** It has been asked to stop, and has not yet. */
  static Progress cancelling(String song, String message) {
    return new Progress(State.RUNNING, song, -1, message, Collections.emptyList(), 0.0);
  }

  static Progress done(String song, List<Stem> stems, double durationS) {
    List<Stem> fixed = Collections.unmodifiableList(stems);
    return new Progress(State.DONE, song, 100, "", fixed, durationS);
  }

  static Progress failed(String song, String message) {
    return new Progress(State.FAILED, song, 0, message, Collections.emptyList(), 0.0);
  }

  /** Of {@link State#DONE}: what {@link #parse} reads. */
  String format() {
    try {
      JSONArray listed = new JSONArray();
      for (Stem stem : stems) {
        listed.put(new JSONObject().put("name", stem.name).put("uri", stem.uri.toString()));
      }
      JSONObject all = new JSONObject().put("song", song).put("duration_s", durationS);
      return all.put("stems", listed).toString();
    } catch (JSONException error) {
      throw new IllegalStateException(error); // no number here is infinite
    }
  }

  /** The inverse of {@link #format}. */
  static Progress parse(String text) throws JSONException {
    JSONObject all = new JSONObject(text);
    JSONArray listed = all.getJSONArray("stems");
    List<Stem> stems = new ArrayList<>();
    for (int n = 0; n < listed.length(); n++) {
      JSONObject stem = listed.getJSONObject(n);
      stems.add(new Stem(stem.getString("name"), Uri.parse(stem.getString("uri"))));
    }
    return done(all.getString("song"), stems, all.getDouble("duration_s"));
  }
}
